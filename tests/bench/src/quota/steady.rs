//! What the store is asked while nothing is near its limit.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_support::Redis;

use super::demand::{Asked, Crowd};
use super::rig::{Counters, ROUTE, Rig, Setup, consumer, quota};
use super::scope::{Progress, Scope};
use crate::figures::float;
use crate::page::Section;
use crate::subject::{LIMITS, limit};

const CALLERS: usize = 30;
/// Of each caller: 1,000 requests a second in all.
const EVERY: Duration = Duration::from_millis(30);
/// Gateways know the rate before it is measured.
const WARM: Duration = Duration::from_secs(3);

/// Measures with one limit and with several.
pub(super) async fn measure(scope: &Scope, progress: &Progress) -> Result<Section> {
    let time = Duration::from_secs(if scope.quick { 4 } else { 10 });
    let mut rows = Vec::new();
    let counts: &[usize] = if scope.quick { &[1] } else { &[1, 3, 10] };
    for &limits in counts {
        progress.tell(&format!("store: {limits} limits"));
        rows.push(one(limits, time).await?);
    }
    Ok(Section {
        title: "What the store is asked",
        text: TEXT.to_owned(),
        header: vec![
            "limits",
            "requests/s",
            "round trips per request",
            "commands per request",
        ],
        rows,
    })
}

const TEXT: &str = "
Three replicas, seven of ten requests on the first, far below every limit. **Round trips** are scripts that
the replicas ran; **commands** is the difference of `total_commands_processed`, which counts those within
scripts too.";

async fn one(limits: usize, time: Duration) -> Result<Vec<String>> {
    let list: Vec<String> = LIMITS.into_iter().take(limits).map(limit).collect();
    let manifests = [
        ROUTE.to_owned(),
        consumer("ann", "all"),
        quota("all", "Share", &format!("[{}]", list.join(", "))),
    ]
    .concat();
    let rig = Rig::start(&Setup {
        counters: Counters::Store,
        replicas: 3,
        manifests: &manifests,
        foundry: &["--completion-tokens", "64"],
    })
    .await?;
    let asked = Asked {
        key: "ann",
        model: "gpt-4o",
        bounded: true,
        stream: false,
    };
    let store = rig.store.as_ref().context("there is a store")?;
    let mut crowd = Crowd::connect(&rig.addresses(), asked, CALLERS).await?;
    crowd.paced(EVERY, WARM).await?.sound()?;
    let (scripts, commands) = (scripts(store)?, store.commands()?);
    let tally = crowd.paced(EVERY, time).await?;
    tally.sound()?;
    anyhow::ensure!(tally.refused == 0, "refused far below the limit: {tally:?}");
    let commands = store.commands()?.saturating_sub(commands);
    let scripts = self::scripts(store)?.saturating_sub(scripts);
    let answered = float(tally.answered);
    Ok(vec![
        limits.to_string(),
        format!("{:.0}", answered / time.as_secs_f64()),
        format!("{:.4}", float(scripts) / answered),
        format!("{:.3}", float(commands) / answered),
    ])
}

/// How many scripts and functions were called.
fn scripts(store: &Redis) -> Result<u64> {
    let stats = store.command(&["INFO", "commandstats"])?;
    let calls = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        ["eval", "evalsha", "fcall"].contains(&name).then_some(rest)
    });
    calls
        .map(|rest| -> Result<u64> {
            let number = rest.split(',').next().unwrap_or_default();
            number.parse().context("read a count")
        })
        .sum()
}
