//! A gateway without a listener, for the tests of its pages and metrics.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::HeaderMap;
use prometheus_client::registry::Registry;
use proxy_core::admit::{Ask, Judged, admit, authenticate};
use proxy_core::names::{Moment, Operation};
use proxy_core::quota::{Hold, Limit, Mode, Per};
use proxy_core::table::{Backend, BackendAuth, Contents, Quota, Table};
use proxy_core::test_util::{backend, deployment, input_cost, quota, route, rule, target};
use proxy_ledger::{Asking, Charge, Refused, Subject};

use crate::config::Config;
use crate::gateway::Gateway;
use crate::metrics::Metrics;

pub(crate) const NOW: Moment = Moment {
    monotonic_ms: 1_000_000,
    unix_ms: 1_900_000_000_000,
};

pub(crate) fn gateway(registry: &mut Registry) -> Gateway {
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        reuse_port: false,
        apis: proxy_api::ROWS,
        threads: 1,
        trusted_hops: 0,
        proxy_protocol: false,
        tls: None,
        max_body: 1_024,
        max_upload: 64 << 20,
        memory_budget: 64 << 20,
        default_output_tokens: 20,
        drain_grace: Duration::from_secs(1),
        limit_series: 2,
        state_keys: crate::kept::StateKeys::of_this_process(),
        access_log: None,
        store: None,
        reach: Arc::default(),
        identity: no_identity(),
    };
    Gateway::new(config, Metrics::register(registry))
}

/// Where no token comes from.
pub(crate) fn no_identity() -> proxy_identity::Config {
    let nowhere = || "http://127.0.0.1:1".parse().expect("an address");
    proxy_identity::Config::new(nowhere(), nowhere())
}

/// One route that passes credentials through, and one quota with these limits.
pub(crate) fn contents(mode: Mode, per: Vec<Per>, limits: Vec<Limit>) -> Contents {
    let mut route = route("r", vec![rule("rule", vec![target("b")])]);
    route.authentication.pass_through = true;
    Contents::new(
        vec![Backend {
            auth: BackendAuth::PassThrough,
            deployments: vec![deployment("m", "m")],
            ..backend("b")
        }],
        vec![route],
        vec![Quota {
            mode,
            per,
            ..quota("q", limits)
        }],
        Vec::new(),
    )
}

/// A gateway of one of `replicas` replicas with these contents.
pub(crate) fn published(contents: Contents, replicas: u64) -> Gateway {
    let gateway = gateway(&mut Registry::default());
    gateway.publish(Arc::new(Table::new(contents)));
    gateway.share_among(replicas);
    gateway
}

/// Reserves input tokens for a caller.
pub(crate) fn take(gateway: &Gateway, key: &str, tokens: u64) -> Box<Charge> {
    reserve(gateway, key, tokens, |reserved| reserved.expect("it fits"))
}

/// Whether a limit refuses this number of input tokens.
pub(crate) fn is_refused(gateway: &Gateway, key: &str, tokens: u64) -> bool {
    reserve(gateway, key, tokens, |reserved| reserved.is_err())
}

fn reserve<T>(
    gateway: &Gateway,
    key: &str,
    tokens: u64,
    then: impl FnOnce(Result<Box<Charge>, Box<Refused>>) -> T,
) -> T {
    let live = gateway.shared().live().expect("a table");
    let caller = authenticate(&live.table, "h", &[Judged::key(key)], NOW)
        .expect("passes through")
        .caller;
    let headers = HeaderMap::new();
    let ask = Ask {
        host: "h",
        operation: Operation::ChatCompletions,
        model: Some("m"),
        headers: &headers,
    };
    let permit = admit(&live.table, &caller, &ask).expect("admitted");
    let subject = Subject {
        limits: &live.rule(permit.index).expect("a rule").limits,
        facts: permit.facts(&caller, Some("m")),
        unproved: false,
    };
    let ledger = &gateway.shared().ledger;
    let asking = Asking {
        counters: &Arc::new(ledger.counters(&subject, NOW)),
        hold: Hold::exact(input_cost(tokens)),
        now: NOW,
        clock: || NOW,
    };
    let taken = ledger.reserve(asking, || None).now_or_never();
    then(taken.expect("without a store nothing waits"))
}
