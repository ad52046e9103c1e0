use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use proptest::collection::vec;
use proptest::prelude::*;
use proxy_core::admit::{Ask, Judged, admit, authenticate};
use proxy_core::auth::KeyDigest;
use proxy_core::names::{Code, ConsumerMatch, ConsumerName, Moment, Operation};
use proxy_core::quota::{Cost, Hold, Limit, Mode, Per, Reached, Unit, Wait, WarnAt, Window};
use proxy_core::table::{Contents, Override, Quota, Table};
pub(crate) use proxy_core::test_util::limit;
use proxy_core::test_util::{backend, input_cost, quota, route, rule, target};

use super::Asking;
use crate::charge::{Charge, Settled};
use crate::counters::{Counters, Subject};
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
    ) -> Result<Box<Charge>, Box<Refused>> {
        let taken = self.reserve(live, key, tokens).now_or_never();
        taken.expect("without a store nothing waits")
    }

    pub(crate) async fn reserve(
        &self,
        live: &Arc<Live>,
        key: &str,
        tokens: u64,
    ) -> Result<Box<Charge>, Box<Refused>> {
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
    ) -> Result<Box<Charge>, Box<Refused>> {
        let asking = Asking {
            counters: &self.counters(live, key, false),
            hold,
            now: clock(),
            clock,
        };
        self.ledger.reserve(asking, recount).await
    }

    pub(crate) fn counters(&self, live: &Arc<Live>, key: &str, unproved: bool) -> Arc<Counters> {
        let headers = HeaderMap::new();
        let caller = authenticate(&live.table, "h", &[Judged::key(key)], clock())
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
            unproved,
        };
        Arc::new(self.ledger.counters(&subject, clock()))
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

fn refused(taken: Result<Box<Charge>, Box<Refused>>) -> Box<Refused> {
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

/// `amount` of the limit `l` for the callers with these credentials.
fn for_callers(keys: &[&str], amount: u64) -> Override {
    let names = keys.iter().map(|key| {
        let fingerprint = KeyDigest::of(key).fingerprint();
        ConsumerName::new("", fingerprint)
    });
    Override {
        consumers: ConsumerMatch {
            names: names.collect(),
            ..ConsumerMatch::default()
        },
        amounts: vec![("l".into(), amount)],
    }
}

#[test]
fn an_override_replaces_the_amount_for_its_callers_alone() {
    let bench = Bench::new();
    let live = |overrides: Vec<Override>, replicas| {
        let tokens = vec![limit("l", Unit::Tokens, 10)];
        let mut contents = contents(Mode::Enforce, vec![Per::Consumer], tokens);
        Arc::make_mut(&mut contents.quotas[0]).overrides = overrides;
        bench.live(contents, replicas)
    };
    let overrides = || {
        vec![
            for_callers(&["batch", "night"], 40),
            for_callers(&["batch", "banned"], 0),
        ]
    };
    let alone = live(overrides(), 1);
    let level = |taken: Result<Box<Charge>, Box<Refused>>| {
        let refused = refused(taken);
        let spent = refused.limit.expect("it is named");
        (spent.level.amount, refused.wait)
    };
    let held = bench
        .take(&alone, "batch", 40)
        .expect("the first that fits");
    let _other = bench.take(&alone, "other", 10).expect("as declared");
    assert_eq!(level(bench.take(&alone, "other", 11)), (10, Wait::Never));
    assert!(matches!(
        level(bench.take(&alone, "batch", 1)),
        (40, Wait::Millis(_))
    ));
    // Also what asks for nothing.
    assert_eq!(level(bench.take(&alone, "banned", 0)), (0, Wait::Never));
    // Two replicas have a half each, and what is used stays used in the next table.
    let shared = live(overrides(), 2);
    assert_eq!(level(bench.take(&shared, "night", 21)), (20, Wait::Never));
    drop(held);
    assert!(matches!(
        level(bench.take(&shared, "batch", 1)),
        (20, Wait::Millis(_))
    ));
    let without = live(Vec::new(), 1);
    assert_eq!(level(bench.take(&without, "night", 11)), (10, Wait::Never));
    drop(bench.take(&without, "banned", 10).expect("no override"));
}

#[test]
fn an_override_counts_permits_and_what_a_shadow_would_refuse() {
    let with = |mode, unit, amount| {
        let bench = Bench::new();
        let limits = vec![limit("l", unit, 1)];
        let mut contents = contents(mode, vec![Per::Consumer], limits);
        let quota = Arc::make_mut(&mut contents.quotas[0]);
        quota.overrides = vec![for_callers(&["k"], amount)];
        let live = bench.live(contents, 1);
        (bench, live)
    };
    let (bench, live) = with(Mode::Enforce, Unit::Concurrency, 2);
    let held = [(); 2].map(|()| bench.take(&live, "k", 1).expect("two at once"));
    assert_eq!(
        code(&refused(bench.take(&live, "k", 1))),
        Code::ConcurrencyExceeded
    );
    drop(held);
    drop(bench.take(&live, "k", 1).expect("none runs"));
    let (bench, live) = with(Mode::Shadow, Unit::Tokens, 0);
    bench.take(&live, "k", 0).expect("never refused");
    bench.take(&live, "k", 9).expect("never refused");
    bench.take(&live, "other", 1).expect("fits");
    assert_eq!(limit_of(&live).shadow_denials.get(), 2);
}

#[test]
fn a_counter_warns_once_for_each_level_and_names_the_tightest_enforced_limit() {
    let bench = Bench::new();
    let mut contents = contents(
        Mode::Enforce,
        vec![Per::Consumer],
        vec![
            limit("l", Unit::Tokens, 100),
            limit("many", Unit::Requests, 1_000),
        ],
    );
    let quota = Arc::make_mut(&mut contents.quotas[0]);
    quota.warn_at = WarnAt::new([50, 80]);
    quota.overrides = vec![for_callers(&["batch"], 1_000)];
    let live = bench.live(contents.clone(), 1);
    let warned = |live: &Live| {
        let each = live.limits.iter();
        let each = each.map(|one| one.warnings.as_ref().map_or(0, Counter::get));
        each.collect::<Vec<_>>()
    };
    let warning = |charge: &Charge| {
        let warning = charge.warning();
        warning.map(|(limit, percent)| format!("{limit} {percent}"))
    };
    let mut charges = Vec::new();
    for (tokens, percent) in [(49, None), (1, Some(50)), (20, Some(70)), (10, Some(80))] {
        let charge = bench.take(&live, "k", tokens).expect("fits");
        let expect = percent.map(|percent| format!("ns/q/l {percent}"));
        assert_eq!(warning(&charge), expect);
        charges.push(charge);
    }
    assert_eq!(warned(&live), [2, 0]);
    // A refusal says it, too.
    let spent = refused(bench.take(&live, "k", 30)).limit.expect("named");
    assert_eq!((spent.level.used, spent.warning()), (80, Some(80)));
    // The amount of an override decides for its callers, and other callers have their own counters.
    let other = bench.take(&live, "batch", 499).expect("fits");
    assert_eq!(warning(&other), None);
    // Use beyond the hold is warned of when it settles; no new level after that.
    other.settle(input_cost(900), Settled::Measured, clock());
    assert_eq!(warned(&live), [3, 0]);
    charges.clear();
    let last = bench.take(&live, "batch", 1).expect("fits");
    assert_eq!(warning(&last).as_deref(), Some("ns/q/l 90"));
    assert_eq!(warned(&live), [3, 0]);
    // A shadow warns in the log alone.
    Arc::make_mut(&mut contents.quotas[0]).mode = Mode::Shadow;
    let bench = Bench::new();
    let live = bench.live(contents, 1);
    let charge = bench.take(&live, "k", 90).expect("fits");
    assert_eq!((warning(&charge), warned(&live)), (None, vec![1, 0]));
}

#[test]
fn a_reading_has_the_last_warning_of_its_window_also_when_nothing_is_used_any_more() {
    let bench = Bench::new();
    let held = Limit {
        window: Window::Held,
        ..limit("held", Unit::Concurrency, 2)
    };
    let mut contents = contents(Mode::Enforce, Vec::new(), vec![held]);
    Arc::make_mut(&mut contents.quotas[0]).warn_at = WarnAt::new([50, 90]);
    let live = bench.live(contents, 1);
    let reading = |now| bench.ledger.slots()[0].reading(limit_of(&live), now);
    let first = bench.take(&live, "k", 1).expect("fits");
    let second = bench.take(&live, "k", 1).expect("fits");
    let warned = Some(Reached {
        level: 90,
        used: 2,
        at_ms: clock().unix_ms,
    });
    let told = reading(clock()).expect("it is used");
    assert_eq!((told.used, told.warned), (2, warned));
    drop((first, second));
    let told = reading(clock()).expect("it has a warning");
    assert_eq!((told.used, told.warned), (0, warned));
    let later = Moment {
        monotonic_ms: clock().monotonic_ms + 60_000,
        ..clock()
    };
    assert_eq!(reading(later), None);
}

proptest! {
    /// Whatever the overrides say, in any order of callers and tables.
    #[test]
    fn no_caller_is_admitted_more_than_its_amount(
        base in 1..50u64,
        first in 0..80u64,
        second in 0..80u64,
        replicas in 1..4u64,
        asks in vec((0..3usize, 0..30u64, any::<bool>()), 1..60),
    ) {
        let bench = Bench::new();
        let tokens = vec![limit("l", Unit::Tokens, base)];
        let mut contents = contents(Mode::Enforce, vec![Per::Consumer], tokens);
        let quota = Arc::make_mut(&mut contents.quotas[0]);
        quota.overrides = vec![for_callers(&["a"], first), for_callers(&["a", "b"], second)];
        let amounts = [first, second, base].map(|amount| amount / replicas);
        let mut live = bench.live(contents.clone(), replicas);
        let mut used = [0; 3];
        for (caller, tokens, publishes) in asks {
            if publishes {
                live = bench.live(contents.clone(), replicas);
            }
            let taken = bench.take(&live, ["a", "b", "c"][caller], tokens);
            let fits = amounts[caller] > 0 && used[caller] + tokens <= amounts[caller];
            prop_assert_eq!(taken.is_ok(), fits);
            if let Ok(charge) = taken {
                used[caller] += tokens;
                drop(charge);
            }
        }
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
