use std::sync::Arc;

use futures::FutureExt;
use proptest::prelude::*;
use proxy_core::names::Usage;
use proxy_core::quota::{Cost, Hold, Limit, Mode, Per, Unit};
use proxy_core::test_util::input_cost;

use super::{MOST, PART, lower, part};
use crate::charge::{Charge, Settled};
use crate::refusal::{Cause, Refused};
use crate::reserve::Asking;
use crate::reserve::tests::{Bench, Live, clock, contents, limit};

impl Bench {
    fn asking<T>(
        &self,
        live: &Arc<Live>,
        (key, unproved): (&str, bool),
        tokens: u64,
        then: impl FnOnce(Asking<'_>) -> T,
    ) -> T {
        then(Asking {
            counters: &self.counters(live, key, unproved),
            hold: Hold::exact(input_cost(tokens)),
            now: clock(),
            clock,
        })
    }

    fn take_unproved(
        &self,
        live: &Arc<Live>,
        key: &str,
        tokens: u64,
    ) -> Result<Box<Charge>, Box<Refused>> {
        self.asking(live, (key, true), tokens, |asking| {
            let reserved = self.ledger.reserve(asking, || None).now_or_never();
            reserved.expect("it waits for nothing")
        })
    }

    fn live_with(&self, per: Vec<Per>, limits: Vec<Limit>) -> Arc<Live> {
        self.live(contents(Mode::Enforce, per, limits), 1)
    }

    /// What is used of the only counter.
    fn used(&self, amount: u64) -> u64 {
        let slots = self.ledger.slots();
        let [slot] = slots.as_slice() else {
            panic!("{} counters", slots.len())
        };
        slot.counted(&limit("l", Unit::Tokens, amount), clock())
            .used
    }
}

#[test]
fn strangers_hold_a_tenth_of_a_shared_limit_and_lock_no_one_out() {
    let bench = Bench::new();
    let live = bench.live_with(Vec::new(), vec![limit("l", Unit::Tokens, 10_000)]);
    let first = bench
        .take_unproved(&live, "junk-1", 9_000)
        .expect("one call is let in");
    assert_eq!(bench.used(10_000), 500);
    let second = bench
        .take_unproved(&live, "junk-2", 9_000)
        .expect_err("all of the part is held");
    assert_eq!(second.cause, Cause::Unproved);
    let good = bench
        .take(&live, "good", 9_000)
        .expect("the rest is for others");
    first.settle(Cost::default(), Settled::Released, clock());
    assert_eq!(bench.used(10_000), 9_000);
    // What does not fit as a whole is refused as for anybody.
    let third = bench
        .take_unproved(&live, "junk-3", 1_001)
        .expect_err("the limit is spent");
    assert_eq!(third.cause, Cause::Spent);
    drop(good);
    let small: Vec<_> = (0..20)
        .map_while(|n| bench.take_unproved(&live, &format!("junk-{n}"), 100).ok())
        .collect();
    assert!(small.len() < 20, "{} calls of 100", small.len());
}

#[test]
fn a_proved_call_is_charged_in_full_and_beyond_the_limit_as_debt() {
    let bench = Bench::new();
    let live = bench.live_with(Vec::new(), vec![limit("l", Unit::Tokens, 1_000)]);
    let unproved = bench.take_unproved(&live, "new", 900).expect("let in");
    assert_eq!(bench.used(1_000), 50);
    let _other = bench.take(&live, "good", 800).expect("it fits");
    let proved = bench.asking(&live, ("new", false), 900, |asking| {
        bench.ledger.charge_anyway(asking)
    });
    unproved.withdraw(clock());
    assert_eq!(bench.used(1_000), 1_700);
    assert!(bench.take(&live, "good", 1).is_err());
    proved.settle(input_cost(50), Settled::Measured, clock());
    assert_eq!(bench.used(1_000), 850);
}

#[test]
fn a_counter_of_its_own_is_held_in_full() {
    let bench = Bench::new();
    let live = bench.live_with(vec![Per::Consumer], vec![limit("l", Unit::Tokens, 1_000)]);
    let _held = bench.take_unproved(&live, "new", 900).expect("it fits");
    assert_eq!(bench.used(1_000), 900);
    assert!(bench.take_unproved(&live, "new", 200).is_err());
}

#[test]
fn strangers_make_a_bounded_number_of_counters() {
    let bench = Bench::new();
    let per = vec![
        limit("l", Unit::Requests, 2),
        limit("m", Unit::Tokens, 1_000),
    ];
    let live = bench.live_with(vec![Per::Consumer], per);
    let held = bench.take_unproved(&live, "runs", 1).expect("it fits");
    let known = bench.take(&live, "known", 1).expect("it fits");
    for n in 0..10_000 {
        let taken = bench.take_unproved(&live, &format!("junk-{n}"), 1);
        taken
            .expect("each has its own")
            .settle(input_cost(1), Settled::Measured, clock());
    }
    assert!(
        bench.ledger.slots().len() <= MOST + 2,
        "{}",
        bench.ledger.slots().len()
    );
    drop((held, known));
    // It is proved by now, so its counter stays.
    drop(bench.asking(&live, ("proved", true), 1, |asking| {
        bench.ledger.reserve(asking, || None).now_or_never()
    }));
    drop(bench.asking(&live, ("proved", false), 900, |asking| {
        bench.ledger.charge_anyway(asking)
    }));
    for n in 0..2 * MOST {
        drop(bench.take_unproved(&live, &format!("more-{n}"), 1));
    }
    assert!(
        bench.take(&live, "proved", 200).is_err(),
        "what it used is not forgotten"
    );
}

proptest! {
    #[test]
    fn the_parts_of_all_together_are_bounded(
        amount in 0..100_000_u64,
        asks in proptest::collection::vec(0..50_000_u64, 0..50),
    ) {
        let mut held = 0;
        for (place, ask) in asks.into_iter().enumerate() {
            let one = part(ask, amount, held);
            prop_assert!(place > 0 || one.is_some(), "one is always let in");
            held += one.unwrap_or(0);
            prop_assert!(held <= (amount / PART).max(1));
        }
    }

    #[test]
    fn lowering_lowers_one_unit(
        (input, output, micros) in (0..1_000_u64, 0..1_000_u64, 0..1_000_u64),
        most in 0..1_500_u64,
        unit in proptest::sample::select(Unit::ALL.as_slice()),
    ) {
        let usage = Usage { input_tokens: input, output_tokens: output, ..Usage::default() };
        let whole = Cost { usage, cost_micros: micros };
        let mut lowered = whole;
        lower(&mut lowered, unit, most.max(1));
        let expected = whole.of(unit).min(most.max(1));
        prop_assert_eq!(lowered.of(unit), expected);
        for other in Unit::ALL {
            prop_assert!(lowered.of(other) <= whole.of(other));
        }
    }
}
