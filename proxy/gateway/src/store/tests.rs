use std::sync::Arc;

use prometheus_client::registry::Registry;
use proxy_core::quota::{Mode, Unit, Wait};

use super::{Metrics, Phase, Store, StoreConfig};
use crate::ledger::tests::{Bench, contents, limit};

/// Its agent does not run, so no call is answered.
#[tokio::test]
async fn who_waits_in_vain_for_a_store_that_is_there_is_refused() {
    let config = StoreConfig {
        address: "redis://127.0.0.1".parse().expect("an address"),
        ca_file: None,
        prefix: "t".to_owned(),
        replica: "r".to_owned(),
    };
    let (store, _agent) = Store::new(config, Metrics::register(&mut Registry::default()));
    let bench = Bench::with(Some(Arc::clone(&store)));
    let limits = vec![limit("l", Unit::Tokens, 100)];
    let live = bench.live(contents(Mode::Enforce, Vec::new(), limits), 1);

    store.enter(Phase::Open);
    let refusal = bench.reserve(&live, "k", 10).await;
    let refusal = refusal.expect_err("nobody has lent anything");
    assert_eq!(refusal.wait, Some(Wait::Millis(1_000)), "{refusal:?}");

    // The quota says `Share`: only now this replica counts for itself.
    store.enter(Phase::Away);
    let charge = bench.reserve(&live, "k", 10).await;
    assert!(charge.is_ok(), "{charge:?}");
}
