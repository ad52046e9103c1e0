use std::sync::Arc;

use proxy_core::quota::{Mode, Unit, Wait};

use super::{Phase, Store};
use crate::reserve::tests::{Bench, contents, limit};

/// Its agent does not run, so no call is answered.
#[tokio::test]
async fn a_request_without_a_grant_of_an_open_store_is_refused() {
    let (store, _calls) = Store::new();
    let bench = Bench::with(Some(Arc::clone(&store)));
    let limits = vec![limit("l", Unit::Tokens, 100)];
    let live = bench.live(contents(Mode::Enforce, Vec::new(), limits), 1);

    store.enter(Phase::Open);
    let refusal = bench.reserve(&live, "k", 10).await;
    let refusal = refusal.expect_err("nothing is granted");
    assert_eq!(refusal.wait, Wait::Millis(1_000), "{refusal:?}");

    // The quota says `Share`: only now this replica counts for itself.
    store.enter(Phase::Away);
    let charge = bench.reserve(&live, "k", 10).await;
    assert!(charge.is_ok(), "{charge:?}");
}
