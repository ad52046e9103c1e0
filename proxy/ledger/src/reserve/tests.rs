use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use http::HeaderMap;
use prometheus_client::registry::Registry;
use proxy_core::admit::{Ask, admit, authenticate};
use proxy_core::names::{Code, Moment, Operation};
use proxy_core::quota::{Cost, Hold, Limit, Mode, Per, Unit, Wait};
use proxy_core::table::{Contents, Quota, Table};
pub(crate) use proxy_core::test_util::limit;
use proxy_core::test_util::{backend, input_cost, quota, route, rule, target};

use super::Asking;
use crate::charge::{Charge, Settled};
use crate::counters::Subject;
use crate::ledger::{Ledger, SHARDS, SWEEP_AT};
use crate::limit::EnforcedLimit;
use crate::metrics::Metrics;
use crate::refusal::Refused;
use crate::store::Store;

pub(crate) fn contents(mode: Mode, per: Vec<Per>, limits: Vec<Limit>) -> Contents {
    let mut route = route("r", vec![rule("rule", vec![target("b")])]);
    route.authentication.pass_through = true;
    let quota = Quota {
        mode,
        per,
        ..quota("q", limits)
    };
    Contents::new(vec![backend("b")], vec![route], vec![quota], Vec::new())
}

/// A table, and its limits as one replica enforces them.
pub(crate) struct Live {
    table: Table,
    pub(crate) limits: Vec<Arc<EnforcedLimit>>,
}

pub(crate) struct Bench {
    pub(crate) ledger: Arc<Ledger>,
    metrics: Metrics,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    pub(crate) fn with(store: Option<Arc<Store>>) -> Self {
        let metrics = Metrics::register(&mut Registry::default());
        Self {
            ledger: Arc::new(Ledger::with_store(&metrics, store)),
            metrics,
        }
    }

    pub(crate) fn live(&self, contents: Contents, replicas: u64) -> Arc<Live> {
        let table = Table::new(contents);
        let limits = table.limits().iter();
        let limits = limits.map(|flat| Arc::new(EnforcedLimit::new(flat, replicas, &self.metrics)));
        Arc::new(Live {
            limits: limits.collect(),
            table,
        })
    }

    pub(crate) fn take(
        &self,
        live: &Arc<Live>,
        key: &str,
        tokens: u64,
    ) -> Result<Charge, Box<Refused>> {
        let taken = self.reserve(live, key, tokens).now_or_never();
        taken.expect("without a store nothing waits")
    }

    pub(crate) async fn reserve(
        &self,
        live: &Arc<Live>,
        key: &str,
        tokens: u64,
    ) -> Result<Charge, Box<Refused>> {
        let hold = Hold::exact(input_cost(tokens));
        self.reserve_hold(live, key, hold, clock, || None).await
    }

    pub(crate) async fn reserve_hold(
        &self,
        live: &Arc<Live>,
        key: &str,
        hold: Hold,
        clock: fn() -> Moment,
        recount: impl Fn() -> Option<Hold>,
    ) -> Result<Charge, Box<Refused>> {
        let headers = HeaderMap::new();
        let caller = authenticate(&live.table, "h", &[key], clock())
            .expect("passes through")
            .caller;
        let operation = Operation::ChatCompletions;
        let ask = Ask {
            host: "h",
            operation,
            model: Some("m"),
            headers: &headers,
        };
        let permit = admit(&live.table, &caller, &ask).expect("admitted");
        let subject = Subject {
            limits: &live.limits,
            facts: permit.facts(&caller, Some("m")),
        };
        let asking = Asking {
            counters: &Arc::new(self.ledger.counters(&subject, clock())),
            hold,
            now: clock(),
            clock,
        };
        self.ledger.reserve(asking, recount).await
    }
}

fn code(refused: &Refused) -> Code {
    let spent = refused.limit.as_ref().expect("it is named");
    spent.limit.limit.code()
}

fn limit_of(live: &Live) -> &EnforcedLimit {
    live.limits.first().expect("there is one")
}

pub(crate) fn clock() -> Moment {
    Moment {
        monotonic_ms: 10,
        unix_ms: 10,
    }
}

fn refused(taken: Result<Charge, Box<Refused>>) -> Box<Refused> {
    taken.expect_err("a refusal")
}

#[test]
fn a_dropped_charge_is_settled_at_its_estimate_once() {
    let bench = Bench::new();
    let live = bench.live(
        contents(
            Mode::Enforce,
            Vec::new(),
            vec![limit("l", Unit::Tokens, 100)],
        ),
        1,
    );
    let mut charge = bench.take(&live, "k", 80).expect("fits");
    charge.estimate = input_cost(30);
    drop(charge);
    let charge = bench.take(&live, "k", 70).expect("30 are used");
    charge.settle(input_cost(70), Settled::Measured, clock());
    let refusal = refused(bench.take(&live, "k", 1));
    assert_eq!(code(&refusal), Code::QuotaExceeded);
    assert_eq!(refusal.limit.expect("named").level.used, 100);
}

#[test]
fn consumers_have_counters_of_their_own_only_if_split() {
    for (per, second) in [(vec![Per::Consumer], true), (Vec::new(), false)] {
        let bench = Bench::new();
        let live = bench.live(
            contents(Mode::Enforce, per, vec![limit("l", Unit::Tokens, 10)]),
            1,
        );
        let first = bench.take(&live, "a", 10).expect("fits");
        assert_eq!(bench.take(&live, "b", 10).is_ok(), second);
        assert!(bench.take(&live, "a", 1).is_err());
        drop(first);
    }
}

#[test]
fn a_new_table_keeps_what_was_used_and_enforces_the_new_limit_at_once() {
    let bench = Bench::new();
    let tokens = |amount| {
        contents(
            Mode::Enforce,
            Vec::new(),
            vec![limit("l", Unit::Tokens, amount)],
        )
    };
    let before = bench.live(tokens(100), 1);
    let charge = bench.take(&before, "k", 60).expect("fits");
    let lower = bench.live(tokens(50), 1);
    assert!(
        bench.take(&lower, "k", 1).is_err(),
        "already beyond the lower limit"
    );
    let higher = bench.live(tokens(120), 1);
    bench.take(&higher, "k", 60).expect("60 are left");
    drop(charge);
}

#[test]
fn replicas_together_admit_at_most_the_limit() {
    let bench = Bench::new();
    let limits = || {
        contents(
            Mode::Enforce,
            Vec::new(),
            vec![limit("l", Unit::Tokens, 100)],
        )
    };
    let live = bench.live(limits(), 3);
    assert!(bench.take(&live, "k", 33).is_ok());
    assert_eq!(
        refused(bench.take(&live, "k", 1))
            .limit
            .expect("named")
            .level
            .amount,
        33
    );
}

#[test]
fn a_shadowed_limit_is_counted_and_refuses_nothing() {
    let bench = Bench::new();
    let live = bench.live(
        contents(
            Mode::Shadow,
            Vec::new(),
            vec![limit("l", Unit::Requests, 1)],
        ),
        1,
    );
    for _ in 0..3 {
        bench.take(&live, "k", 1).expect("never refused");
    }
    assert_eq!(limit_of(&live).shadow_denials.get(), 2);
    assert_eq!(limit_of(&live).denials.get(), 0);
}

#[test]
fn every_kind_of_limit_has_its_code() {
    for (unit, expect) in [
        (Unit::Requests, Code::RateLimited),
        (Unit::Tokens, Code::QuotaExceeded),
        (Unit::Concurrency, Code::ConcurrencyExceeded),
    ] {
        let bench = Bench::new();
        let live = bench.live(
            contents(Mode::Enforce, Vec::new(), vec![limit("l", unit, 1)]),
            1,
        );
        let held = bench.take(&live, "k", 1).expect("fits");
        assert_eq!(code(&refused(bench.take(&live, "k", 1))), expect);
        drop(held);
    }
}

#[test]
fn a_request_beyond_the_whole_limit_never_fits() {
    let bench = Bench::new();
    let live = bench.live(
        contents(Mode::Enforce, Vec::new(), vec![limit("l", Unit::Tokens, 5)]),
        1,
    );
    assert_eq!(refused(bench.take(&live, "k", 6)).wait, Wait::Never);
}

#[test]
fn unused_counters_of_strangers_are_dropped() {
    let bench = Bench::new();
    let live = bench.live(
        contents(
            Mode::Enforce,
            vec![Per::Consumer],
            vec![limit("l", Unit::Concurrency, 1)],
        ),
        1,
    );
    let held = bench.take(&live, "stays", 1).expect("fits");
    for caller in 0..200_000 {
        bench
            .take(&live, &format!("k{caller}"), 1)
            .expect("its own counter")
            .settle(Cost::default(), Settled::Released, clock());
    }
    let counters: usize = bench
        .ledger
        .shards
        .iter()
        .map(|shard| shard.read().counters.len())
        .sum();
    assert!(counters <= 2 * SHARDS * SWEEP_AT, "{counters}");
    assert!(
        bench.take(&live, "stays", 1).is_err(),
        "what is held is kept"
    );
    drop(held);
}

#[test]
fn ten_thousand_concurrent_reservations_over_three_limits_admit_exactly_the_tightest() {
    let bench = Arc::new(Bench::new());
    let limits = vec![
        limit("a", Unit::Tokens, 5_000),
        limit("b", Unit::Requests, 700),
        limit("c", Unit::Tokens, 9_000),
    ];
    let live = bench.live(contents(Mode::Enforce, Vec::new(), limits), 1);
    let admitted = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (bench, live, admitted) =
                (Arc::clone(&bench), Arc::clone(&live), Arc::clone(&admitted));
            std::thread::spawn(move || {
                for _ in 0..1_250 {
                    if let Ok(charge) = bench.take(&live, "k", 7) {
                        charge.settle(input_cost(7), Settled::Measured, clock());
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(admitted.load(Ordering::Relaxed), 700);
    // A refusal by the second limit has burnt nothing of the first.
    let used = refused(bench.take(&live, "k", 5_000))
        .limit
        .expect("named")
        .level
        .used;
    assert!(used == 4_900 || used == 700, "{used}");
}

#[test]
fn a_handler_that_panics_is_settled_once_at_what_was_known() {
    let bench = Bench::new();
    let limits = vec![limit("l", Unit::Tokens, 100)];
    let live = bench.live(contents(Mode::Enforce, Vec::new(), limits), 1);
    let charge = bench.take(&live, "k", 80).expect("fits");
    let handler = std::thread::spawn(move || {
        let mut charge = charge;
        charge.estimate = input_cost(30);
        panic!("a handler that panics");
    });
    assert!(handler.join().is_err());
    let refusal = refused(bench.take(&live, "k", 71));
    assert_eq!(refusal.limit.expect("named").level.used, 30);
    bench.take(&live, "k", 70).expect("30 are used");
}
