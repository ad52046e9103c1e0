//! How much is admitted of a limit that callers ask far more of: `admitted` when all call at once, and
//! in the whole window when they go on calling.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::call::{Caller, Chat, Outcome};
use super::demand::{Asked, Crowd, Tally};
use super::rig::{Billed, Counters, Foundry, ROUTE, Rig, Setup, consumer, quota};
use super::scope::{Progress, Scope, ratio};
use crate::page::Section;

/// How long callers go on after they all called at once: every caller once more.
const AGAIN: Duration = Duration::from_secs(2);

/// Calls without a bound before the measured ones; gateways begin to learn with the 20th.
const LEARNED_FROM: usize = 30;

/// A crowd, and a limit for two fifths of its calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    group: &'static str,
    pub(super) callers: usize,
    pub(super) tokens: u64,
    requests: u64,
    new_model: &'static str,
}

pub(super) const SMALL: Size = Size {
    group: "small",
    callers: 300,
    tokens: 17_000,
    requests: 120,
    new_model: "gpt-new-1",
};

const SIZES: [Size; 2] = [
    SMALL,
    Size {
        group: "big",
        callers: 3000,
        tokens: 170_000,
        requests: 1200,
        new_model: "gpt-new-2",
    },
];

/// What the callers ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    unit: &'static str,
    pub(super) max_tokens: &'static str,
    pub(super) stream: bool,
}

pub(super) const CASES: [Case; 6] = [
    case("bounded", "Tokens", "given", false),
    case("bounded-stream", "Tokens", "given", true),
    case("unbounded", "Tokens", "not given", false),
    case("unbounded-stream", "Tokens", "not given", true),
    case("new", "Tokens", NEW, false),
    case("requests", "Requests", "given", false),
];

/// Bounded JSON calls with a consumer of their own, for another shape than a crowd at once.
pub(super) const DYING: Case = case("dying", "Tokens", "given", false);

/// Not given, for a model of which nothing was learned.
const NEW: &str = "not given, new model";

const fn case(
    name: &'static str,
    unit: &'static str,
    max_tokens: &'static str,
    stream: bool,
) -> Case {
    Case {
        name,
        unit,
        max_tokens,
        stream,
    }
}

/// Measures every case with these counters.
pub(super) async fn measure(scope: &Scope, progress: &Progress) -> Result<Section> {
    let replicas: &[usize] = if scope.quick { &[3] } else { &[1, 3, 8] };
    let sizes = if scope.quick { 1 } else { SIZES.len() };
    let mut rows = Vec::new();
    for counters in scope.counters() {
        for &count in replicas {
            let rig = start(counters, count).await?;
            learn(&rig).await?;
            for case in CASES {
                let mut row = vec![
                    counters.name().to_owned(),
                    count.to_string(),
                    format!("{}/Minute", case.unit),
                    case.max_tokens.to_owned(),
                    if case.stream { "stream" } else { "JSON" }.to_owned(),
                ];
                for size in SIZES.into_iter().take(sizes) {
                    progress.tell(&format!(
                        "admitted: {}, {count} replicas, {}, {} callers",
                        counters.name(),
                        case.name,
                        size.callers
                    ));
                    row.extend(one(&rig, case, size).await?);
                }
                row.resize(5 + 2 * SIZES.len(), "-".to_owned());
                rows.push(row);
            }
        }
    }
    Ok(Section {
        title: "Admitted of a limit",
        text: TEXT.to_owned(),
        header: vec![
            "counters",
            "replicas",
            "limit",
            "max_tokens",
            "answers",
            "300 at once",
            "300, window",
            "3,000 at once",
            "3,000, window",
        ],
        rows,
    })
}

const TEXT: &str = "
What the backend billed for what was answered, divided by the limit of a rolling minute. The limit fits two
fifths of the calls. **At once**: every caller calls once, all at the same time. **Window**: all of that, and
every caller has called once more within the next two seconds. Seven of ten callers call the first replica.
Answers have 64 tokens, or fewer where `max_tokens` is given (32, 64 or 128). In memory each replica enforces
its part, so what is left over of the parts of quiet replicas stays unused.";

pub(super) async fn start(counters: Counters, replicas: usize) -> Result<Rig> {
    let mut manifests = ROUTE.to_owned();
    manifests.push_str(&consumer("warm", "warm"));
    manifests.push_str(&consumer("wide", "wide"));
    let limits = "[{name: minute, unit: Tokens, limit: 9000000000000, window: Minute}]";
    manifests.push_str(&quota("wide", "Share", limits));
    for size in SIZES {
        for unit in ["Tokens", "Requests"] {
            let amount = match unit {
                "Tokens" => size.tokens,
                _ => size.requests,
            };
            let group = group(size, unit);
            let limits =
                format!("[{{name: minute, unit: {unit}, limit: {amount}, window: Minute}}]");
            manifests.push_str(&quota(&group, "Share", &limits));
        }
        for case in CASES.into_iter().chain([DYING]) {
            manifests.push_str(&consumer(&key(case, size), &group(size, case.unit)));
        }
    }
    Rig::start(&Setup {
        counters,
        replicas,
        manifests: &manifests,
        foundry: &["--completion-tokens", "64", "--token-interval", "5ms"],
    })
    .await
}

fn group(size: Size, unit: &str) -> String {
    format!("{}-{}", size.group, unit.to_ascii_lowercase())
}

/// Each measurement has a consumer, and so a counter, of its own.
pub(super) fn key(case: Case, size: Size) -> String {
    format!("{}-{}", size.group, case.name)
}

/// Shows every replica what answers without a bound are like, for a consumer without a quota.
pub(super) async fn learn(rig: &Rig) -> Result<()> {
    for address in rig.addresses() {
        for number in 0..LEARNED_FROM {
            let chat = Chat {
                key: "warm",
                model: "gpt-4o",
                words: 20 + number * 37 % 100,
                max_tokens: None,
                stream: false,
            };
            let outcome = Caller::new(vec![address], chat.request()).call().await;
            anyhow::ensure!(outcome == Outcome::Answered, "a first call: {outcome:?}");
        }
    }
    Ok(())
}

async fn one(rig: &Rig, case: Case, size: Size) -> Result<[String; 2]> {
    let admitted = crowd(&rig.foundry, &rig.addresses(), &key(case, size), case, size).await?;
    admitted.tally.sound()?;
    let part = |billed: Billed| match case.unit {
        "Requests" => ratio(billed.requests, size.requests),
        _ => ratio(billed.tokens, size.tokens),
    };
    Ok([part(admitted.at_once), part(admitted.window)])
}

/// What was billed of a crowd's calls.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) at_once: Billed,
    /// Those at once included.
    pub(super) window: Billed,
    pub(super) tally: Tally,
}

/// Lets a crowd call all at once, and then once more.
pub(super) async fn crowd(
    foundry: &Foundry,
    addresses: &[SocketAddr],
    key: &str,
    case: Case,
    size: Size,
) -> Result<Admitted> {
    let new = case.max_tokens == NEW;
    let asked = Asked {
        key,
        model: if new { size.new_model } else { "gpt-4o" },
        bounded: case.max_tokens == "given",
        stream: case.stream,
    };
    let before = foundry.billed().await?;
    let mut crowd = Crowd::connect(addresses, asked, size.callers).await?;
    let mut tally = crowd.at_once().await?;
    let at_once = foundry.billed().await?.since(before);
    tally.add(crowd.paced(AGAIN, AGAIN).await?);
    let window = foundry.billed().await?.since(before);
    Ok(Admitted {
        at_once,
        window,
        tally,
    })
}
