//! Whether the wait that a refusal names is the right one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::call::{Caller, Chat, Outcome};
use super::rig::{Counters, ROUTE, Rig, Setup, consumer, quota};
use super::scope::{Progress, Scope};
use crate::page::Section;

/// Consumers of each kind, each with a counter of its own.
const CONSUMERS: usize = 8;

/// A rolling window, and how it is spent.
#[derive(Clone, Copy, Debug)]
struct Window {
    name: &'static str,
    limit: u64,
    /// Between two calls that spend the limit.
    spend_every: Duration,
    /// Between two looks whether a call succeeds: how exact the result is.
    look_every: Duration,
    /// Trials of one consumer.
    trials: usize,
}

const SECOND: Window = Window {
    name: "Second",
    limit: 600,
    spend_every: Duration::from_millis(80),
    look_every: Duration::from_millis(10),
    trials: 6,
};

const MINUTE: Window = Window {
    name: "Minute",
    limit: 2000,
    spend_every: Duration::from_millis(500),
    look_every: Duration::from_millis(100),
    trials: 1,
};

/// Who else calls on the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Alone,
    /// Two callers at other replicas, who call no more once the limit is spent: what their replicas
    /// hold is left over.
    Before,
    /// Two callers, who also wait as their refusals say.
    Two,
}

const OTHERS: [Others; 3] = [Others::Alone, Others::Before, Others::Two];

/// Measures all windows and counters; those of a minute at the same time.
pub(super) async fn measure(scope: &Scope, progress: &Progress) -> Result<Section> {
    let mut rows = Vec::new();
    let windows: &[Window] = if scope.quick {
        &[SECOND]
    } else {
        &[SECOND, MINUTE]
    };
    for &window in windows {
        progress.tell(&format!(
            "wait: {}{}",
            window.name,
            if window.name == "Minute" {
                ", up to 80 s"
            } else {
                ""
            }
        ));
        let mut rigs = Vec::new();
        for counters in scope.counters() {
            let replicas = if counters == Counters::Store { 3 } else { 1 };
            rigs.push((counters, start(counters, replicas, window).await?));
        }
        let mut tasks = JoinSet::new();
        let mut number = 0;
        for (counters, rig) in &rigs {
            for others in OTHERS {
                let addresses = rig.addresses();
                let order = number;
                let counters = *counters;
                number += 1;
                tasks.spawn(async move {
                    let errors = trials(addresses, window, others).await?;
                    anyhow::Ok((order, row(window, counters, others, errors)))
                });
            }
        }
        let mut done: Vec<(usize, Vec<String>)> = Vec::new();
        while let Some(one) = tasks.join_next().await {
            done.push(one??);
        }
        done.sort();
        rows.extend(done.into_iter().map(|(_, row)| row));
    }
    Ok(Section {
        title: "The wait that a refusal names",
        text: TEXT.to_owned(),
        header: vec![
            "window", "counters", "others", "trials", "least", "p50", "p90", "most",
        ],
        rows,
    })
}

const TEXT: &str = "
From the moment that `retry-after-ms` of a 429 named to the first success, in milliseconds. None: the
call is repeated all the time from the refusal on, so less than 0 says that it would have fitted earlier (up
to a tenth of the wait is added so that callers do not return all at once). Two before: others have called at
the other replicas until the limit was spent, and then no more, so their replicas hold something of it. Two
others: they use the same limit and wait as their refusals say; the call is repeated from the named moment on. In memory
one replica, with the store three.";

async fn start(counters: Counters, replicas: usize, window: Window) -> Result<Rig> {
    let limits = format!(
        "[{{name: only, unit: Tokens, limit: {}, window: {}}}]",
        window.limit, window.name
    );
    let mut manifests = ROUTE.to_owned();
    manifests.push_str(&quota("all", "Share", &limits));
    for others in OTHERS {
        for number in 0..CONSUMERS {
            manifests.push_str(&consumer(&key(others, number), "all"));
        }
    }
    Rig::start(&Setup {
        counters,
        replicas,
        manifests: &manifests,
        foundry: &["--completion-tokens", "64"],
    })
    .await
}

fn key(others: Others, number: usize) -> String {
    match others {
        Others::Alone => format!("alone-{number}"),
        Others::Before => format!("before-{number}"),
        Others::Two => format!("shared-{number}"),
    }
}

/// Errors in milliseconds, of all consumers.
async fn trials(addresses: Vec<SocketAddr>, window: Window, others: Others) -> Result<Vec<i64>> {
    let mut tasks = JoinSet::new();
    for number in 0..CONSUMERS {
        let addresses = rotated(&addresses, number);
        tasks.spawn(consumer_trials(
            addresses,
            window,
            others,
            key(others, number),
        ));
    }
    let mut errors = Vec::new();
    while let Some(done) = tasks.join_next().await {
        errors.extend(done??);
    }
    Ok(errors)
}

async fn consumer_trials(
    addresses: Vec<SocketAddr>,
    window: Window,
    others: Others,
    key: String,
) -> Result<Vec<i64>> {
    let chat = Chat {
        key: &key,
        model: "gpt-4o",
        words: 40,
        max_tokens: Some(64),
        stream: false,
    };
    let request = chat.request();
    let mut caller = Caller::new(addresses.clone(), Arc::clone(&request));
    let mut errors = Vec::new();
    // Ended with the set, at last when the trials are over.
    let mut background = JoinSet::new();
    for _ in 0..window.trials {
        if others != Others::Alone && background.is_empty() {
            for number in 1..=2 {
                let addresses = rotated(&addresses, number);
                background.spawn(patient(addresses, Arc::clone(&request), window));
            }
        }
        errors.push(trial(&mut caller, window, others, &mut background).await?);
    }
    Ok(errors)
}

/// Spends the limit until a call is refused, and finds when the next one succeeds.
async fn trial(
    caller: &mut Caller,
    window: Window,
    others: Others,
    background: &mut JoinSet<()>,
) -> Result<i64> {
    let promised = loop {
        match caller.call().await {
            Outcome::Answered => sleep(window.spend_every).await,
            Outcome::Refused(wait) => {
                break Instant::now() + wait.context("a 429 without a wait")?;
            }
            other @ (Outcome::Failed(_) | Outcome::Cut) => {
                anyhow::bail!("a call that spends: {other:?} {}", caller.broken())
            }
        }
    };
    match others {
        Others::Alone => {}
        Others::Before => background.shutdown().await,
        Others::Two => sleep_until(promised).await,
    }
    let deadline = promised + Duration::from_secs(70);
    loop {
        match caller.call().await {
            Outcome::Answered => break,
            Outcome::Refused(_) => sleep(window.look_every).await,
            other @ (Outcome::Failed(_) | Outcome::Cut) => {
                anyhow::bail!("a call after the wait: {other:?} {}", caller.broken())
            }
        }
        ensure!(Instant::now() < deadline, "no call succeeds after the wait");
    }
    let now = Instant::now();
    let late = now.saturating_duration_since(promised).as_millis();
    let early = promised.saturating_duration_since(now).as_millis();
    Ok(i64::try_from(late)? - i64::try_from(early)?)
}

/// So that callers begin at different replicas.
fn rotated(addresses: &[SocketAddr], number: usize) -> Vec<SocketAddr> {
    let mut addresses = addresses.to_vec();
    let by = number % addresses.len().max(1);
    addresses.rotate_left(by);
    addresses
}

/// Calls all the time, and waits as long as refusals say.
async fn patient(addresses: Vec<SocketAddr>, request: Arc<[u8]>, window: Window) {
    let mut caller = Caller::new(addresses, request);
    loop {
        let wait = match caller.call().await {
            Outcome::Refused(Some(wait)) => wait,
            Outcome::Answered | Outcome::Refused(None) | Outcome::Failed(_) | Outcome::Cut => {
                window.spend_every
            }
        };
        sleep(wait).await;
    }
}

fn row(window: Window, counters: Counters, others: Others, mut errors: Vec<i64>) -> Vec<String> {
    errors.sort_unstable();
    // Of a hundred.
    let at = |share: usize| {
        let last = errors.len().saturating_sub(1);
        errors
            .get(last * share / 100)
            .map_or_else(String::new, i64::to_string)
    };
    vec![
        window.name.to_owned(),
        counters.name().to_owned(),
        match others {
            Others::Alone => "none",
            Others::Before => "two before",
            Others::Two => "two",
        }
        .to_owned(),
        errors.len().to_string(),
        at(0),
        at(50),
        at(90),
        at(100),
    ]
}
