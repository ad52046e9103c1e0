//! `make bench`: what a request and an event cost, beside bare hyper, nginx and HAProxy.
//!
//! Everything shares the machine, so throughput is noise: the honest number is CPU per request of
//! the process under test, and its ratio to the reference measured in the same round.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_admin::clock;
use tests_support::{binary, workspace};

use self::program::{Program, named};
use self::sample::Row;
use self::workload::{Load, NAMES, Workload};
use crate::page::{self, Section, line, progress};
use crate::process::{open_files, runtime};
use crate::subject::{Stage, Subject, missing};

mod chart;
mod memory;
mod program;
mod report;
mod sample;
mod workload;

/// 5,000 connections, on both sides of a proxy, and some.
const FILES: u64 = 16_384;

/// Before the first sample of a row: vocabularies are loaded, sizes learned.
const WARM: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds; the rows of a round are interleaved, the median of the rounds is shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only this workload; repeatable. The page is left as it is
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    workload: Vec<String>,
    /// The gateway to measure, or several: `now=target/release/tundish`
    #[arg(long, value_name = "[NAME=]PATH", value_parser = named)]
    tundish: Vec<Program>,
    /// Two rounds of a second, and fewer connections; the page is left as it is
    #[arg(long)]
    quick: bool,
}

/// Measures, prints, and writes the page after a whole run.
pub(crate) fn run(args: &Args) -> Result<()> {
    let absent = missing(&[("nginx", "-v"), ("haproxy", "-v")]);
    ensure!(
        absent.is_empty(),
        "not installed: {absent:?}; on Debian or Ubuntu: apt-get install nginx haproxy"
    );
    open_files(FILES)?;
    let (rounds, time) = match args.quick {
        true => (2, Duration::from_secs(1)),
        false => (args.rounds, Duration::from_secs(args.seconds)),
    };
    let programs = match args.tundish.as_slice() {
        [] => vec![Program {
            name: "tundish".to_owned(),
            path: binary("tundish")?,
        }],
        some => some.to_vec(),
    };
    let wanted =
        |name: &str| args.workload.is_empty() || args.workload.iter().any(|one| one == name);
    let started = clock::instant();
    let tell = |text: &str| {
        let elapsed = clock::instant().saturating_duration_since(started);
        progress(&format!("[bench {:4} s] {text}", elapsed.as_secs()));
    };
    let mut sections = Vec::new();
    let mut bars = Vec::new();
    for workload in workload::all().into_iter().filter(|one| wanted(one.name)) {
        // A runtime of its own: what a workload leaves behind ends with it.
        let runtime = runtime(1)?;
        let rows = runtime
            .block_on(measure(&workload, &programs, (rounds, time), &tell))
            .with_context(|| format!("workload {}", workload.name))?;
        runtime.shutdown_timeout(Duration::from_secs(1));
        sections.push(report::section(&workload, &rows));
        bars.extend(report::bars(&workload, &rows));
    }
    if wanted(memory::NAME) {
        tell("memory");
        sections.push(runtime(1)?.block_on(memory::measure(&programs, args.quick, &tell))?);
    }
    publish(args, &sections, &bars, (rounds, time))
}

fn publish(
    args: &Args,
    sections: &[Section],
    bars: &[chart::Group],
    (rounds, time): (usize, Duration),
) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let introduction = format!(
        "`make bench` repeats and rewrites this: {rounds} rounds of {} s, rows interleaved, medians (least \
         to most) on one machine of {cores} cores.",
        time.as_secs()
    );
    let text = page::markdown("###", &introduction, sections);
    line(&text);
    if args.workload.is_empty() && args.tundish.is_empty() && !args.quick {
        page::write(&workspace().join("docs/benchmarks.md"), "bench", &text)?;
        let svg = workspace().join("docs/benchmarks.svg");
        std::fs::write(svg, chart::svg(bars)).context("write the picture")?;
        progress("docs/benchmarks.md and docs/benchmarks.svg are written");
    }
    Ok(())
}

/// Starts every row of a workload, and samples them in turn.
async fn measure(
    workload: &Workload,
    programs: &[Program],
    (rounds, time): (usize, Duration),
    tell: &impl Fn(&str),
) -> Result<Vec<Row>> {
    let stage = Stage::start().await?;
    let mut rows = Vec::new();
    for lane in &workload.lanes {
        let copies = match lane.subject {
            Subject::Tundish(_) => programs,
            Subject::Direct | Subject::Bare | Subject::Nginx { .. } | Subject::HaProxy => {
                programs.get(..1).unwrap_or_default()
            }
        };
        for program in copies {
            let running = stage.run(lane.subject, &program.path, &[]).await?;
            let target = stage.target(lane.subject, &running)?;
            let name = lane.name.replace("tundish", &program.name);
            let mut row = Row::new(name, lane.clone(), running, target);
            let warm = match workload.load {
                Load::Requests { .. } => WARM,
                Load::Events { .. } => Duration::from_secs(1),
            };
            let warmed = row.sample(workload.load, warm).await;
            warmed.with_context(|| row.name.clone())?;
            row.samples.clear();
            rows.push(row);
        }
    }
    for round in 1..=rounds {
        tell(&format!("{}: round {round} of {rounds}", workload.name));
        for row in &mut rows {
            row.sample(workload.load, time)
                .await
                .with_context(|| row.name.clone())?;
        }
    }
    Ok(rows)
}
