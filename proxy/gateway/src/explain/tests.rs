use std::sync::Arc;

use prometheus_client::registry::Registry;
use proxy_core::quota::Unit;
use proxy_core::table::{Backend, BackendAuth, Contents, Identity, Principal, Table};
use proxy_core::test_util::{backend, deployment, key, limit, object, quota, route, rule, target};
use proxy_core::whatif::InvalidConsumer;

use super::ExplainError;
use crate::test_support::gateway;

/// A limit of 100 tokens for `alice`, admitted by the only route.
fn table() -> Table {
    let mut route = route("r", vec![rule("rule", vec![target("b")])]);
    route.authentication.keys = vec![object("alice")].into();
    Table::new(Contents::new(
        vec![Backend {
            deployments: vec![deployment("m", "m")],
            ..backend("b")
        }],
        vec![route],
        vec![quota("q", vec![limit("l", Unit::Tokens, 100)])],
        vec![key("alice")],
    ))
}

#[test]
fn a_gateway_explains_by_its_share_of_the_limits() {
    let gateway = gateway(&mut Registry::default());
    let query = "model=m&consumer=alice&input_tokens=10&max_tokens=5";
    assert_eq!(gateway.explain_page(query), Err(ExplainError::NoTable));
    gateway.publish(Arc::new(table()));
    gateway.share_among(4);
    let page = gateway.explain_page(query).expect("it has a table");
    assert!(page.verdict.admitted, "{page:?}");
    let limit = &page.limits[0];
    assert_eq!((limit.asks, limit.amount, limit.remaining), (15, 25, 25));
}

#[test]
fn a_backend_without_a_token_says_so() {
    let gateway = gateway(&mut Registry::default());
    let mut contents = table().contents().clone();
    let backend = Arc::make_mut(&mut contents.backends[0]);
    backend.endpoint = "https://f.example".into();
    let query = "model=m&consumer=alice&input_tokens=10&max_tokens=5";
    let no_token = |contents: &Contents| {
        gateway.publish(Arc::new(Table::new(contents.clone())));
        let page = gateway.explain_page(query).expect("it has a table");
        (page.backends[0].no_token.clone(), page.verdict.code)
    };
    assert_eq!(no_token(&contents), (None, None));
    Arc::make_mut(&mut contents.backends[0]).auth = BackendAuth::Identity(Identity {
        principal: Principal::Managed { client_id: None },
        scope: "https://ai.azure.com/.default".into(),
    });
    let expect = Some("no token has come yet".to_owned());
    let code = Some("backend_credential_refused".to_owned());
    assert_eq!(no_token(&contents), (expect, code));
}

#[test]
fn an_unknown_consumer_is_an_error() {
    let gateway = gateway(&mut Registry::default());
    gateway.publish(Arc::new(table()));
    let error = gateway
        .explain_page("model=m&consumer=stranger")
        .expect_err("there is no such consumer");
    assert!(
        matches!(
            error,
            ExplainError::Consumer(InvalidConsumer::Unknown { .. })
        ),
        "{error}"
    );
}
