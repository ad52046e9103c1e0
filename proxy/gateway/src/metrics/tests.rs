use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use expect_test::expect_file;
use prometheus_client::registry::Registry;
use proxy_admin::{clock, shutdown, task};
use proxy_core::admit::Vouched;
use proxy_core::auth::{Issuer, KeyDigest, Mapping, Required, Source, Trust};
use proxy_core::names::{Class, Code};
use proxy_core::quota::{Mode, Unit, WarnAt};
use proxy_core::table::{Identity, Principal, Table};
use proxy_core::test_util::limit;
use proxy_ledger::{Agent, StoreConfig};
use tokio::runtime::Builder;

use crate::test_support::{contents, gateway};

const ISSUER: &str = "http://127.0.0.1:1";

fn issuer() -> Issuer {
    Issuer {
        trust: Trust {
            source: Source {
                issuer: ISSUER.into(),
                jwks_uri: None,
            },
            audiences: vec!["a".into()],
            mapping: Mapping {
                consumer: "sub".into(),
                attributes: Vec::new(),
            },
        },
        required: Required::default(),
    }
}

/// Every family with a sample, or the encoder leaves it out.
fn touched() -> String {
    let mut registry = Registry::with_prefix("tundish");
    let gateway = gateway(&mut registry);
    gateway.register_limits(&mut registry);
    gateway.register_memory(&mut registry);
    let limits = vec![limit("l", Unit::Tokens, 1)];
    let mut contents = contents(Mode::Enforce, Vec::new(), limits);
    Arc::make_mut(&mut contents.quotas[0]).warn_at = WarnAt::new([80]);
    Arc::make_mut(&mut contents.routes[0])
        .authentication
        .issuers = vec![issuer()];
    gateway.publish(Arc::new(Table::new(contents)));
    let metrics = &gateway.shared().metrics;
    metrics.unrouted("ok");
    let store = StoreConfig {
        address: "redis://127.0.0.1:1".parse().expect("an address"),
        ca_file: None,
        prefix: String::new(),
        replica: String::new(),
    };
    drop(Agent::new(store, &metrics.ledger));
    metrics.certificates.set("", 1_900_000_000);
    let _tries = metrics.tries("ns/b", "d", "200");
    let _waited = metrics.waited("ns/b", "d");
    metrics.retried("ns/b", "d", "upstream_failed");
    let _load = metrics.load("ns/b", "d");
    let _failures = metrics.failures("ns/b", "d");
    let _in = metrics.is_in("ns/b", "d");
    metrics.cached_share("ns/b", "d").set(0.5);
    metrics.ejected("ns/b", "d", "Failing");
    metrics.yielded("ns/b", "d", Class::Batch);
    metrics.cut("ns/b", "d");
    let _tokens = metrics.rule_named("ns/r", "rule").tokens("c");
    let identity = Identity {
        principal: Principal::Managed { client_id: None },
        scope: "https://ai.azure.com/.default".into(),
    };
    let identities = &gateway.shared().identities;
    let credential = identities.credential(&identity, None);
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (_trigger, shutdown) = shutdown::channel();
        let running = task::spawn("identities", Arc::clone(identities).run(shutdown));
        let until = clock::instant() + Duration::from_secs(10);
        credential.ready(until).await.expect_err("no endpoint");
        running.abort();
        let issuers = Arc::clone(&gateway.shared().issuers);
        let (_trigger, shutdown) = shutdown::channel();
        let running = task::spawn("issuers", issuers.run(shutdown));
        let live = gateway.shared().live().expect("a table");
        let verifier = live.verifier.as_ref().expect("an issuer");
        let payload = format!(r#"{{"iss": "{ISSUER}", "aud": "a"}}"#);
        let token = format!(
            "eyJhbGciOiJFUzI1NiJ9.{}.e30",
            URL_SAFE_NO_PAD.encode(payload)
        );
        let digest = KeyDigest::of(&token);
        let vouched = verifier.vouch(&live.table, "h", &digest, &token, clock::instant());
        assert!(matches!(vouched.await, Vouched::Failed(_)));
        running.abort();
    });
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    text
}

#[test]
fn without_a_store_no_series_says_that_it_is_away() {
    let mut registry = Registry::with_prefix("tundish");
    let _gateway = gateway(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    assert!(!text.contains("quota_store_up"), "{text}");
}

#[test]
fn the_page_of_metrics_is_current() {
    let page = tests_support::metrics_page("Metrics of the gateway", &touched());
    expect_file!["../../../../docs/metrics/gateway.md"].assert_eq(&page);
}

#[test]
fn the_page_of_errors_is_current() {
    let mut page = String::from(
        "# Errors of the gateway\n\nGenerated from the code. Every error that the gateway itself \
         answers is JSON in the client's dialect, with one of these words as `error.code`; the same \
         word is the label `code` of `tundish_requests_total` and the field `code` of the access log. \
         Errors of a backend pass through untouched and count as `upstream_error`; a client that hung \
         up counts as `client_aborted`.\n\nA 429 names the limit in `error.param` \
         (`namespace/quota/limit`) and states in `retry-after-ms` and `retry-after` when this request \
         would fit every limit, up to a tenth later; beyond 60 s, or if it never fits, \
         `x-should-retry: false` keeps SDKs from trying. So it does with every other 4xx but 408, since the \
         same request would be refused again.\n\n| code | status | meaning |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        writeln!(
            page,
            "| `{}` | {} | {} |",
            code.as_str(),
            code.status(),
            code.help()
        )
        .expect("a string");
    }
    expect_file!["../../../../docs/errors.md"].assert_eq(&page);
}
