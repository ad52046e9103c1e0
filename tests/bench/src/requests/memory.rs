//! Memory of connections that idle, of streams that hang, and of the process itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::program::Program;
use crate::figures::{float, mega};
use crate::load::{self, Connections, Target, Wire, events};
use crate::page::Section;
use crate::process::{proportional, resident, rest};
use crate::subject::{Running, Settings, Stage, Subject, Upstream};

pub(super) const NAME: &str = "memory";

/// Connections come apart from each other, as those of real clients do.
const APART: Duration = Duration::from_millis(1);

/// Until the memory of an idle connection is read.
const IDLE: Duration = Duration::from_secs(5);

/// Before the connections that are counted, so that the process has what it needs anyway.
const WARM: usize = 20;

struct Counts {
    idle: usize,
    streams: usize,
}

pub(super) async fn measure(
    programs: &[Program],
    quick: bool,
    tell: &impl Fn(&str),
) -> Result<Section> {
    let counts = match quick {
        true => Counts {
            idle: 1000,
            streams: 1000,
        },
        false => Counts {
            idle: 5000,
            streams: 4000,
        },
    };
    let nginx = Subject::Nginx {
        upstream: Upstream::Plain,
        front: false,
    };
    let none = Path::new("");
    let mut subjects = vec![
        ("bare hyper", Subject::Bare, none),
        ("nginx", nginx, none),
        ("HAProxy", Subject::HaProxy, none),
    ];
    for Program { name, path } in programs {
        subjects.push((name, Subject::Tundish(Settings::PLAIN), path));
    }
    let stage = Stage::start().await?;
    let mut rows = Vec::new();
    for (name, subject, program) in subjects {
        tell(&format!("{NAME}: {name}"));
        let row = row(&stage, subject, program, &counts).await;
        let mut cells = vec![name.to_owned()];
        cells.extend(row.with_context(|| name.to_owned())?);
        rows.push(cells);
    }
    Ok(Section {
        title: "Memory",
        text: format!(
            "`--workload {NAME}`. KB per connection are the growth of the proportional set size. {} idle \
             connections made one request each, {APART:?} apart, and rested for {} s; {} open streams sent \
             one event and hang. Resident is the whole process, before any request and after the first, \
             which a token limit counts.",
            counts.idle,
            IDLE.as_secs(),
            counts.streams
        ),
        header: vec![
            "row",
            "KB per idle connection",
            "KB per open stream",
            "resident idle, MB",
            "resident after a request, MB",
        ],
        rows,
    })
}

/// The figures of a subject, each kind of connection on a process of its own.
async fn row(
    stage: &Stage,
    subject: Subject,
    program: &Path,
    counts: &Counts,
) -> Result<[String; 4]> {
    let running = stage.run(subject, program, &[]).await?;
    let target = stage.target(subject, &running)?;
    let resting = resident(running.id)?;
    let request = load::chat(target.address, &running.header, 1024);
    drop(Connections::open(&target, &request, 1).await?);
    rest(running.id).await?;
    let used = resident(running.id)?;
    let idle = idle(&running, &target, &request, counts.idle).await?;
    drop(running);

    let running = stage.run(subject, program, &[]).await?;
    let target = stage.target(subject, &running)?;
    let open = streams(&running, &target, counts.streams).await?;
    Ok([
        format!("{:.1}", idle / 1e3),
        format!("{:.1}", open / 1e3),
        format!("{:.1}", mega(resting)),
        format!("{:.1}", mega(used)),
    ])
}

async fn idle(running: &Running, target: &Target, request: &[u8], count: usize) -> Result<f64> {
    drop(Connections::open(target, request, WARM).await?);
    rest(running.id).await?;
    let before = proportional(running.id)?;
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(Connections::open(target, request, 1).await?);
        sleep(APART).await;
    }
    sleep(IDLE).await;
    each(running, before, held.len())
}

async fn streams(running: &Running, target: &Target, count: usize) -> Result<f64> {
    for _ in 0..WARM {
        drop(events::hung(target, &running.header).await?);
    }
    rest(running.id).await?;
    let before = proportional(running.id)?;
    let mut held: Vec<Box<dyn Wire>> = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(events::hung(target, &running.header).await?);
    }
    sleep(Duration::from_secs(1)).await;
    each(running, before, held.len())
}

/// Bytes of each of the connections that are held now.
fn each(running: &Running, before: u64, count: usize) -> Result<f64> {
    let grown = proportional(running.id)?.saturating_sub(before);
    ensure!(count > 0, "no connections");
    Ok(float(grown) / float(u64::try_from(count)?))
}
