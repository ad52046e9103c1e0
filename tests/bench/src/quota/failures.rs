//! The same when something dies: the store, or the replica that most callers use, with streams open.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_support::Redis;
use tokio::time::sleep;

use super::demand::{Asked, Crowd};
use super::rig::{Counters, ROUTE, Rig, Setup, consumer, quota};
use super::scope::{Progress, Scope, ratio};
use crate::page::Section;

/// Tokens per minute. Callers ask for two and a half times as much within the run.
const LIMIT: u64 = 170_000;
const CALLERS: usize = 300;

/// When it dies, counted from the first call.
const DIES: Duration = Duration::from_secs(3);
/// How long the store is away.
const AWAY: Duration = Duration::from_secs(5);
/// The run; the limit would be reached after two fifths of it.
pub(super) const TIME: Duration = Duration::from_secs(12);
/// Calls of a caller are so far apart.
const EVERY: Duration = Duration::from_millis(1200);

#[derive(Clone, Copy, Debug)]
enum Dies {
    Nothing,
    Store,
    Replica,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    dies: Dies,
    counters: Counters,
    on_store_loss: &'static str,
}

const CASES: [Case; 7] = [
    case(Dies::Nothing, Counters::Memory, "-"),
    case(Dies::Replica, Counters::Memory, "-"),
    case(Dies::Nothing, Counters::Store, "Share"),
    case(Dies::Replica, Counters::Store, "Share"),
    case(Dies::Store, Counters::Store, "Deny"),
    case(Dies::Store, Counters::Store, "Share"),
    case(Dies::Store, Counters::Store, "Allow"),
];

impl Case {
    /// Whether it is the one to look at when there is little time.
    fn quick(self) -> bool {
        matches!(self.dies, Dies::Store) && self.on_store_loss == "Share"
    }
}

const fn case(dies: Dies, counters: Counters, on_store_loss: &'static str) -> Case {
    Case {
        dies,
        counters,
        on_store_loss,
    }
}

/// Measures every case that this build can run.
pub(super) async fn measure(scope: &Scope, progress: &Progress) -> Result<Section> {
    let mut rows = Vec::new();
    for case in CASES {
        if (scope.quick && !case.quick()) || !scope.counters().contains(&case.counters) {
            continue;
        }
        let what = match case.dies {
            Dies::Nothing => "nothing",
            Dies::Store => "the store, back after 5 s and empty",
            Dies::Replica => "the replica of 7 in 10 callers",
        };
        progress.tell(&format!(
            "failures: {}, {what}, {}",
            case.counters.name(),
            case.on_store_loss
        ));
        let mut row = vec![
            what.to_owned(),
            case.counters.name().to_owned(),
            case.on_store_loss.to_owned(),
        ];
        row.extend(one(case).await?);
        rows.push(row);
    }
    Ok(Section {
        title: "Admitted when something dies",
        text: TEXT.to_owned(),
        header: vec![
            "killed after 3 s",
            "counters",
            "onStoreLoss",
            "admitted / limit",
            "answered",
            "refused",
            "cut or failed",
        ],
        rows,
    })
}

const TEXT: &str = "
Three replicas, streams of 1.3 s, calls evenly spread over 12 s that ask for two and a half times a limit of
Tokens/Minute, seven of ten on the first replica. SIGKILL after 3 s. Admitted is everything that the backend
billed, the tokens of cut streams included. Callers of a dead replica go on at another.";

async fn one(case: Case) -> Result<[String; 4]> {
    let loss = match case.on_store_loss {
        "-" => "Share",
        loss => loss,
    };
    let limits = format!("[{{name: minute, unit: Tokens, limit: {LIMIT}, window: Minute}}]");
    let manifests = [
        ROUTE.to_owned(),
        consumer("ann", "all"),
        quota("all", loss, &limits),
    ]
    .concat();
    let mut rig = Rig::start(&Setup {
        counters: case.counters,
        replicas: 3,
        manifests: &manifests,
        foundry: &["--completion-tokens", "64", "--token-interval", "20ms"],
    })
    .await?;
    let asked = Asked {
        key: "ann",
        model: "gpt-4o",
        bounded: true,
        stream: true,
    };
    let mut crowd = Crowd::connect(&rig.addresses(), asked, CALLERS).await?;
    let (tally, died) = tokio::join!(crowd.paced(EVERY, TIME), die(&mut rig, case.dies));
    died?;
    let tally = tally?;
    let billed = rig.settled().await?;
    if matches!(case.dies, Dies::Nothing) {
        tally.sound()?;
    }
    Ok([
        ratio(billed.tokens, LIMIT),
        tally.answered.to_string(),
        tally.refused.to_string(),
        tally.told_broken(),
    ])
}

async fn die(rig: &mut Rig, what: Dies) -> Result<()> {
    match what {
        Dies::Nothing => {}
        Dies::Store => store_dies(rig.store()?).await?,
        Dies::Replica => {
            sleep(DIES).await;
            let first = rig.replicas.first_mut().context("there is a replica")?;
            drop(first.take());
        }
    }
    Ok(())
}

/// Kills the store after a while, and brings it back empty.
pub(super) async fn store_dies(store: &mut Redis) -> Result<()> {
    sleep(DIES).await;
    store.kill();
    sleep(AWAY).await;
    store.restart()
}
