use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::{Hold, Mode, Unit, Wait};
use proxy_core::test_util::input_cost;

use super::{Phase, Store};
use crate::refusal::Cause;
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

    // The quota says `Share`, but nothing is known of the whole.
    store.enter(Phase::Away);
    let refusal = bench.reserve(&live, "k", 10).await;
    let refusal = refusal.expect_err("others may have used all of it");
    assert_eq!(refusal.cause, Cause::StoreLost);
    store.touch(after(0));
    let ask = |clock| {
        let hold = Hold::exact(input_cost(10));
        bench.reserve_hold(&live, "k", hold, clock, || None)
    };
    let early = ask(|| after(62_999)).await;
    assert!(early.is_err(), "{early:?}");
    let charge = ask(|| after(63_000)).await;
    assert!(charge.is_ok(), "only now this replica counts for itself");
}

fn after(monotonic_ms: u64) -> Moment {
    Moment {
        monotonic_ms,
        unix_ms: 0,
    }
}
