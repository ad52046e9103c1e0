//! The wait that a refusal names, against the store's model as time passes: after it the request fits,
//! and a sub-bucket earlier it does not.

use proxy_core::names::Moment;
use proxy_core::quota::{
    Backing, Counter, Entry, Escrow, LeaseReply, LeaseReport, LeaseRequest, Limit, Mode, RoundTrip,
    Shortfall, Unit, Wait, Window, reserve,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tests_quota::Model;
use tests_quota::model::{Item, Outcome};
use tests_quota::replica::cost;

const SEEDS: u64 = 3_000;
const START: i64 = 1_800_000_000_000;

fn moment(now: i64) -> Moment {
    Moment {
        monotonic_ms: u64::try_from(now - START).unwrap_or(0) + 1_000_000,
        unix_ms: now,
    }
}

/// Asks the store as the replica `name`, which knows it already.
fn asks(
    store: &mut Model,
    name: &str,
    limit: &Limit,
    ask: LeaseRequest,
    now: i64,
) -> Option<LeaseReply> {
    let item = Item {
        key: "limit".to_owned(),
        amount: limit.amount,
        window: limit.window.in_store(now),
        ask,
    };
    let epoch = store.epoch.clone().map_or(String::new(), |(name, _)| name);
    match store.call(name, &epoch, 1, &[item], now) {
        Outcome::Done(answers, _) => answers.into_iter().next(),
        Outcome::OtherEpoch | Outcome::OtherPeriod => None,
    }
}

/// The wait of a request for `tokens` at `now`; `None` when it fits.
fn refused_wait(store: &mut Model, limit: &Limit, tokens: u64, now: i64) -> Option<Wait> {
    let at = moment(now);
    let mut escrow = Escrow::new(limit);
    let ask = escrow.request(tokens, 1, at);
    let answer = asks(store, "asker", limit, ask.clone(), now)?;
    let trip = RoundTrip {
        sent_ms: at.monotonic_ms,
        received_ms: at.monotonic_ms,
        settling: false,
    };
    escrow.answered(&ask, answer, trip);
    let mut counter = Counter::new(limit, at);
    let mut entry = Entry::own(limit, Mode::Enforce, &mut counter);
    entry.backing = Backing::Lent(&mut escrow);
    match reserve::<Vec<_>>(&mut [entry], &cost(tokens), at) {
        Err(Shortfall::Exceeded(exceeded)) => Some(exceeded.wait),
        Err(Shortfall::Lacking(_)) | Ok(_) => None,
    }
}

fn fits(store: &Model, limit: &Limit, tokens: u64, now: i64) -> bool {
    refused_wait(&mut store.clone(), limit, tokens, now).is_none()
}

/// Others use the limit at random, also beyond it and for long. Returns whether there was a refusal.
fn story(seed: u64, window: Window) -> bool {
    let mut rng = StdRng::seed_from_u64(seed);
    let limit = Limit {
        name: "limit".into(),
        unit: Unit::Tokens,
        amount: rng.random_range(10..2_000),
        window,
    };
    let tau = i64::try_from(limit.window.lease_ms()).unwrap_or(1);
    let mut store = Model::default();
    let mut now = START + rng.random_range(0..10 * tau);
    for _ in 0..rng.random_range(2..60) {
        let want = rng.random_range(0..=limit.amount / 3);
        let mut ask = LeaseRequest::new(LeaseReport::Grants {
            returns: Vec::new(),
            lasts: rng.random_range(1..=limit.window.reach()),
            owed: if rng.random_bool(0.1) {
                rng.random_range(1..=limit.amount)
            } else {
                0
            },
        });
        ask.want = want;
        asks(&mut store, "other", &limit, ask, now);
        now += rng.random_range(0..2 * tau);
    }
    let tokens = rng.random_range(1..=limit.amount);
    let Some(wait) = refused_wait(&mut store, &limit, tokens, now) else {
        return false;
    };
    assert_ne!(wait, Wait::Never, "seed {seed}: {tokens} of {limit:?}");
    let wait = match wait {
        Wait::Millis(wait) => i64::try_from(wait).unwrap_or(i64::MAX),
        Wait::Never => 0,
    };
    assert!(
        fits(&store, &limit, tokens, now + wait),
        "seed {seed}: {tokens} of {limit:?} do not fit after {wait} ms"
    );
    let sooner = now + wait - tau - 1;
    assert!(
        sooner <= now || !fits(&store, &limit, tokens, sooner),
        "seed {seed}: {tokens} of {limit:?} fit a sub-bucket before {wait} ms"
    );
    true
}

#[test]
fn the_wait_of_a_refusal_is_when_it_fits_and_not_later() {
    for window in [Window::Second, Window::Minute] {
        let refusals = (0..SEEDS)
            .filter(|&seed| story(seed, window.clone()))
            .count();
        assert!(refusals > 500, "{window}: only {refusals} refusals");
    }
}
