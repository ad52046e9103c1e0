//! An operator that is newer than its proxy: the proxy lacks a feature of some entries.

use std::sync::Arc;

use anyhow::{Context, Result};
use http::HeaderMap;
use operator_publish::Features;
use proxy_core::admit::{Ask, Judged, Permit, admit, authenticate};
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{Code, EntryKind, EntryName, Moment, ObjectName, Operation};
use proxy_core::quota::Unit;
use proxy_core::route::HostPattern;
use proxy_core::table::{Contents, Quota, Route, Scope, Table};
use proxy_core::test_util::{self, limit};
use proxy_wire::v1::{Declared, Feature};
use tests_support::eventually;

use super::parts::{Operator, PATIENCE, Proxy, contents, route};

/// What objects named `red` use. No proxy of today knows it.
const COLOUR: Features = Features(&[Feature {
    name: "colour",
    needed_by: |declared| {
        let name = match declared {
            Declared::Backend(backend) => &backend.name,
            Declared::Route(route) => &route.name,
            Declared::Quota(quota) => &quota.name,
            Declared::Key(key) => &key.secret,
        };
        name.name() == "red"
    },
}]);

/// A route for its own host, open to the key `k`.
fn open(name: &str) -> Result<Route> {
    let mut open = route(name, 1);
    let host = HostPattern::parse(&format!("{name}.example")).context("a host")?;
    open.hostnames = vec![host];
    open.authentication.keys = vec![ObjectName::new("a", "key")].into();
    Ok(open)
}

fn key(secret: &str, text: &str) -> Arc<Key> {
    Arc::new(Key {
        secret: ObjectName::new("a", secret),
        consumer: secret.into(),
        digest: KeyDigest::of(text),
        attributes: Vec::new(),
        expires_ms: None,
    })
}

/// Counts the requests of one route.
fn quota(name: &str, route: &str) -> Arc<Quota> {
    let scope = Scope::Targets(vec![(ObjectName::new("a", route), None)]);
    let limits = vec![limit("rpm", Unit::Requests, 10)];
    Arc::new(Quota {
        scope,
        ..test_util::quota(&format!("a/{name}"), limits)
    })
}

/// The routes `blue`, `green` and `red`. Quota `red` covers `green`, quota `blue` covers `blue`.
fn table() -> Result<Contents> {
    let mut table = contents(vec![open("blue")?, open("green")?, open("red")?]);
    let east = table.backends.first_mut().context("a backend")?;
    Arc::make_mut(east).deployments = vec![test_util::deployment("m", "m")];
    table.quotas = vec![quota("blue", "blue"), quota("red", "green")].into();
    table.keys = vec![key("key", "k"), key("red", "other")].into();
    Ok(table)
}

/// How the proxy judges a request for `host`.
fn decide(table: &Table, host: &str, key: &str) -> Result<(), (Code, String)> {
    let now = Moment {
        monotonic_ms: 0,
        unix_ms: 0,
    };
    let headers = HeaderMap::new();
    let ask = Ask {
        host,
        operation: Operation::ChatCompletions,
        model: Some("m"),
        headers: &headers,
    };
    let caller = authenticate(table, host, &[Judged::key(key)], now);
    let permit = caller.and_then(|one| admit(table, &one.caller, &ask).map(|_: Permit<'_>| ()));
    permit.map_err(|denial| (denial.code, denial.message))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_a_feature_refuses_what_needs_it_and_applies_the_rest() -> Result<()> {
    let operator = Operator::start_with("127.0.0.1:0".parse()?, None, COLOUR).await?;
    let published = operator.publisher.publish(1, &table()?);
    let proxy = Proxy::start("p1", &[operator.url()])?;
    proxy.table(1).await?;
    let live = {
        let given = proxy.given.lock();
        let (live, _) = given.tables.last().context("a table")?;
        Arc::clone(live)
    };
    assert_eq!(decide(&live, "blue.example", "k"), Ok(()));
    let lacks = "it needs the feature colour, which this version of the proxy lacks";
    let refused = |what: &str| Err((Code::RouteRejected, format!("the {what}: {lacks}")));
    assert_eq!(
        decide(&live, "red.example", "k"),
        refused("route a/red is in error")
    );
    let by_quota = refused("quota a/red cannot be enforced");
    assert_eq!(decide(&live, "green.example", "k"), by_quota);
    let (code, _) = decide(&live, "blue.example", "other")
        .err()
        .context("a refusal")?;
    assert_eq!(code, Code::InvalidCredential, "the key is left out");
    let limits = live.limits().iter().map(|limit| limit.name.to_string());
    assert_eq!(limits.collect::<Vec<_>>(), ["a/blue/rpm", "a/red/rpm"]);

    operator.acked("p1", published.sequence).await?;
    let entries: Vec<(EntryName, Vec<String>)> = {
        let fleet = operator.publisher.fleet();
        let replica = fleet.borrow().replicas.first().cloned().context("p1")?;
        assert_eq!(replica.refused, None);
        let each = replica.unsupported.iter();
        each.map(|(entry, needs)| (entry.clone(), needs.clone()))
            .collect()
    };
    let kinds = [EntryKind::Route, EntryKind::Quota, EntryKind::Key];
    let expected = kinds.map(|kind| {
        let entry = EntryName::new(kind, ObjectName::new("a", "red"));
        (entry, vec!["colour".to_owned()])
    });
    assert_eq!(entries, expected);

    // Without the feature in use, the same proxy enforces everything again.
    let mut plain = table()?;
    plain.routes.pop();
    plain.quotas.pop();
    plain.keys.pop();
    let next = operator.publisher.publish(2, &plain);
    operator.acked("p1", next.sequence).await?;
    let fleet = operator.publisher.fleet();
    eventually("no unsupported entry", PATIENCE, async || {
        let fleet = fleet.borrow();
        fleet.replicas.first()?.unsupported.is_empty().then_some(())
    })
    .await?;
    Ok(())
}
