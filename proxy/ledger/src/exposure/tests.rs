use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use proptest::prelude::*;
use proxy_core::names::Moment;
use proxy_core::quota::{Hold, Limit, Mode, Unit, Wait};
use proxy_core::test_util::input_cost;
use tokio::time::{Instant, sleep};

use crate::charge::{Charge, Settled};
use crate::refusal::{Cause, Refused};
use crate::reserve::tests::{Bench, Live, clock, contents, limit};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn guess(cost: u64, most: u64) -> Hold {
    Hold {
        cost: input_cost(cost),
        most: input_cost(most),
    }
}

/// Limits of one quota, and requests for them.
struct Gate {
    bench: Bench,
    live: Arc<Live>,
}

impl Gate {
    fn new(mode: Mode, limits: Vec<Limit>) -> Self {
        let bench = Bench::new();
        let live = bench.live(contents(mode, Vec::new(), limits), 1);
        Self { bench, live }
    }

    fn tokens(amount: u64) -> Self {
        Self::new(Mode::Enforce, vec![limit("l", Unit::Tokens, amount)])
    }

    fn ask(&self, hold: Hold) -> impl Future<Output = Result<Box<Charge>, Box<Refused>>> {
        self.bench
            .reserve_hold(&self.live, "k", hold, clock, || None)
    }

    /// Admitted without a wait.
    fn admits(&self, hold: Hold) -> Option<Box<Charge>> {
        self.ask(hold).now_or_never()?.ok()
    }

    /// Asks for as many requests at once, each of which runs for `time` and uses `used`; how many
    /// were admitted.
    async fn run(&self, times: usize, hold: Hold, time: Duration, used: u64) -> usize {
        let requests = (0..times).map(|_| async {
            let charge = self.ask(hold).await.ok()?;
            sleep(time).await;
            charge.settle(input_cost(used), Settled::Measured, clock());
            Some(())
        });
        join_all(requests).await.into_iter().flatten().count()
    }

    /// How much is used, how many exposed requests run, and how many wait.
    fn state(&self) -> (u64, u32, usize) {
        let slots = self.bench.ledger.slots();
        let slot = slots.first().expect("there is one");
        let limit = &self.live.limits.first().expect("there is one").limit;
        let used = slot.counted(limit, clock()).used;
        let state = slot.state.lock();
        (used, state.exposure.running(), state.exposure.waiting.len())
    }
}

#[tokio::test(start_paused = true)]
async fn what_short_answers_teach_admits_at_most_twice_the_limit() {
    let gate = Gate::tokens(20_000);
    assert_eq!(gate.run(60, guess(30, 4_100), secs(0), 20).await, 60);
    let began = Instant::now();
    let admitted = gate.run(300, guess(30, 4_100), secs(2), 4_000).await;
    let (used, running, waiting) = gate.state();
    assert!(used <= 40_000, "{used} of 20,000");
    assert!(admitted >= 5, "the limit is used up: {admitted}");
    assert_eq!((running, waiting), (0, 0));
    assert!(began.elapsed() <= secs(10), "a spent limit refuses at once");
    println!("used {used} of 20,000, {admitted} of 300 admitted");
}

#[tokio::test(start_paused = true)]
async fn a_limit_for_a_hundred_guesses_admits_a_hundred_in_rounds() {
    for (hold, rounds) in [
        (guess(100, 500), 4),
        (guess(30, 130), 4),
        (guess(30, 4_100), 50),
    ] {
        let gate = Gate::tokens(100 * hold.cost.usage.input_tokens);
        let began = Instant::now();
        let used = hold.cost.usage.input_tokens;
        let admitted = gate.run(100, hold, Duration::from_millis(500), used).await;
        let took = began.elapsed();
        println!("{admitted} of 100 in {took:?}");
        assert!(admitted >= 80, "{admitted} of 100");
        assert!(
            took <= Duration::from_millis(500) * rounds + secs(1),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_is_never_held_up_by_guesses() {
    let gate = Gate::tokens(1_000);
    let first = gate.admits(guess(1, 5_000)).expect("one may run");
    let second = gate.admits(guess(1, 5_000)).expect("two may run");
    assert!(gate.admits(guess(1, 5_000)).is_none(), "three may not");
    assert!(gate.admits(guess(900, 900)).is_some());
    drop((first, second));
    assert!(gate.admits(guess(1, 5_000)).is_some());
}

#[tokio::test(start_paused = true)]
async fn only_enforced_limits_of_tokens_hold_guesses_up() {
    for (mode, unit) in [
        (Mode::Shadow, Unit::Tokens),
        (Mode::Enforce, Unit::Requests),
        (Mode::Enforce, Unit::Concurrency),
        (Mode::Enforce, Unit::OutputTokens),
    ] {
        let gate = Gate::new(mode, vec![limit("l", unit, 10)]);
        let charges: Vec<_> = (0..10).map(|_| gate.admits(guess(1, 5_000))).collect();
        assert!(charges.iter().all(Option::is_some), "{mode:?} {unit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guess_that_waited_in_vain_is_refused_for_what_is_running() {
    let gate = Gate::tokens(1_000);
    let running = [0; 2].map(|_| gate.admits(guess(1, 5_000)).expect("two may run"));
    let began = Instant::now();
    let refused = gate.ask(guess(1, 5_000)).await.expect_err("no turn came");
    assert_eq!(began.elapsed(), secs(60));
    assert_eq!(refused.cause, Cause::Exposed { running: 2 });
    assert_eq!(refused.wait, Wait::Millis(1_000));
    let limit = refused.limit.expect("it is named").limit;
    assert_eq!(limit.flat.name.to_string(), "ns/q/l");
    assert_eq!(limit.denials.get(), 1);
    assert_eq!(gate.state().2, 0, "no place is left behind");
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_spent_limit_refuses_a_guess_without_a_wait() {
    let gate = Gate::tokens(1_000);
    let running = [0; 2].map(|_| gate.admits(guess(1, 5_000)).expect("two may run"));
    let refused = gate.ask(guess(999, 5_000)).now_or_never().expect("at once");
    assert_eq!(refused.expect_err("998 are left").cause, Cause::Spent);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_recount_is_asked_for_before_a_wait() {
    let gate = Gate::tokens(1_000);
    let running = [0; 2].map(|_| gate.admits(guess(1, 5_000)).expect("two may run"));
    let (bench, live) = (&gate.bench, &gate.live);
    let recount = || Some(guess(900, 900));
    let counted = bench.reserve_hold(live, "k", guess(1, 5_000), clock, recount);
    let charge = counted.now_or_never().expect("no wait").expect("it fits");
    assert_eq!(charge.estimate, input_cost(900));
    assert_eq!(gate.state(), (902, 2, 0));
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn turns_come_in_order_of_arrival_and_pass_over_those_who_left() {
    let gate = Gate::tokens(1_000);
    let mut running = vec![gate.admits(guess(1, 5_000)), gate.admits(guess(1, 5_000))];
    let mut leaves = Box::pin(gate.ask(guess(1, 5_000)));
    let mut large = Box::pin(gate.ask(guess(1, 9_000)));
    let mut small = Box::pin(gate.ask(guess(1, 2)));
    for waiting in [&mut leaves, &mut large, &mut small] {
        assert!(waiting.now_or_never().is_none());
    }
    assert_eq!(gate.state().2, 3);
    // Its turn has come, but it is gone before it could take it.
    running.pop();
    drop(leaves);
    assert!(
        small.as_mut().now_or_never().is_none(),
        "the large one is first"
    );
    let charge = large.as_mut().now_or_never().expect("its turn");
    running.push(charge.ok());
    assert!(
        small.as_mut().now_or_never().is_none(),
        "14,000 and 2 are too much"
    );
    running.clear();
    assert!(small.as_mut().now_or_never().expect("its turn").is_ok());
    assert_eq!(gate.state().2, 0);
}

#[tokio::test(start_paused = true)]
async fn a_guess_waits_for_one_limit_after_the_other() {
    let limits = vec![
        limit("a", Unit::Tokens, 1_000),
        limit("b", Unit::InputTokens, 1_000),
    ];
    let gate = Gate::new(Mode::Enforce, limits);
    let admitted = gate.run(20, guess(10, 900), secs(1), 20).await;
    assert_eq!(admitted, 20);
    assert_eq!(gate.state(), (400, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_turn_is_lost_between_threads() {
    let gate = Arc::new(Gate::tokens(1_000_000));
    let admitted = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..2_000 {
        let (gate, admitted) = (Arc::clone(&gate), Arc::clone(&admitted));
        tasks.spawn(async move {
            let ask = gate.ask(guess(1, 900_000));
            if index % 7 == 0 {
                // A client that hangs up.
                let _gone = tokio::time::timeout(Duration::from_micros(index), ask).await;
                return;
            }
            if let Ok(charge) = ask.await {
                tokio::task::yield_now().await;
                drop(charge);
                admitted.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = tokio::time::timeout(secs(25), tasks.join_next())
        .await
        .expect("its turn")
    {
        ended.expect("no panic");
    }
    assert_eq!(admitted.load(Ordering::Relaxed), 2_000 - 286);
    assert_eq!(gate.state().1, 0);
    assert_eq!(gate.state().2, 0);
}

thread_local! {
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
}

fn moving() -> Moment {
    Moment {
        monotonic_ms: NOW_MS.get(),
        unix_ms: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The bound of docs/quota-bounds.md, recounted for each window that ends with an admission.
    #[test]
    fn every_window_stays_within_the_limit_and_what_guesses_may_add(
        amount in 100u64..3_000,
        steps in prop::collection::vec((0u64..6_000, 1u64..200, 0u64..2_500, 0u64..=100, any::<bool>(), 0usize..40), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("it starts");
        let _entered = runtime.enter();
        NOW_MS.set(0);
        let gate = Gate::tokens(amount);
        let mut open: Vec<(Box<Charge>, usize)> = Vec::new();
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        let mut largest = 0;
        for (pause, cost, more, share, bound, settle) in steps {
            NOW_MS.set(NOW_MS.get() + pause / 4);
            let most = if bound { cost } else { cost + more };
            let asked = gate.bench.reserve_hold(&gate.live, "k", guess(cost, most), moving, || None);
            if let Some(Ok(charge)) = asked.now_or_never() {
                largest = largest.max(most - cost);
                open.push((charge, admitted.len()));
                // What it will use is known here, and not to the ledger.
                admitted.push((NOW_MS.get(), most * share / 100));
            }
            if settle < open.len() {
                let (charge, index) = open.swap_remove(settle);
                NOW_MS.set(NOW_MS.get() + pause / 2);
                charge.settle(input_cost(admitted[index].1), Settled::Measured, moving());
            }
        }
        for (end, _) in &admitted {
            let within = admitted.iter().filter(|(at, _)| at <= end && at + 60_000 >= *end);
            let used: u64 = within.map(|(_, used)| used).sum();
            prop_assert!(used <= amount + amount.max(2 * largest), "{used} of {amount}, {largest}");
        }
    }
}
