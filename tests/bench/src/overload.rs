//! More requests than the gateway has CPU for, from clients that give up: how many get their answer in time, how
//! soon the others are refused, and how soon all is well behind it. Fails if a promise of docs/overload.md is
//! broken.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use parking_lot::Mutex;

use crate::figures::float;
use crate::latency::Latencies;
use crate::page::{self, Section, line, progress};
use crate::process::{open_files, runtime};

mod callers;
mod gateway;

use callers::{PART, PATIENCE, Phase, Pool, Tally, probe};
use gateway::{CLASSES, Gateway, Work};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Hundredths of a CPU that the gateway has
    #[arg(long, default_value_t = 25)]
    percent: u32,
    /// Seconds of each phase
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only this work: JSON, streams or classes
    #[arg(long)]
    only: Option<String>,
    /// Print what is broken, and do not fail
    #[arg(long)]
    lenient: bool,
}

/// The load of each phase, as a part of the capacity.
const LOADS: [f64; 4] = [0.8, 1.2, 2.0, 0.5];
/// From here on it is an overload.
const OVER: f64 = 1.0;
/// Clients of the closed loop that finds the capacity: enough that the gateway never waits.
const CLIENTS: usize = 64;
/// Answers in time, of the capacity. A refusal costs a large part of a small answer, and a small one of a stream.
const GOODPUT_JSON: f64 = 0.6;
const GOODPUT_STREAMS: f64 = 0.9;
const REFUSALS: Duration = Duration::from_millis(100);
const PROBES: Duration = Duration::from_millis(100);
/// Once the load is low again, nearly all calls are well from then on.
const WELL: Duration = Duration::from_secs(2);
const NEARLY_ALL: f64 = 0.99;

/// One phase.
struct Row {
    work: Work,
    load: f64,
    capacity: f64,
    phase: Phase,
    /// Of all probes meanwhile.
    probes: Latencies,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    open_files(16_384)?;
    let mut rows = Vec::new();
    let wanted = |work: &Work| args.only.as_deref().is_none_or(|only| work.name() == only);
    for work in Work::ALL.into_iter().filter(wanted) {
        let runtime = runtime(2)?;
        rows.extend(runtime.block_on(measure(work, args))?);
    }
    line(&page::markdown("##", "", &[section(&rows, args)]));
    let broken: Vec<String> = rows.iter().flat_map(Row::broken).collect();
    if broken.is_empty() || args.lenient {
        for text in &broken {
            progress(text);
        }
        return Ok(());
    }
    bail!("broken promises:\n{}", broken.join("\n"));
}

async fn measure(work: Work, args: &Args) -> Result<Vec<Row>> {
    let gateway = Gateway::start(work, args.percent).await?;
    let time = Duration::from_secs(args.seconds);
    gateway.calls.closed(CLIENTS, time / 5).await?;
    let capacity = gateway.calls.closed(CLIENTS, time / 2).await?;
    let pool = Arc::new(Pool::default());
    let mut rows = Vec::new();
    for load in LOADS {
        progress(&format!("{}: {load} x {capacity:.0}/s", work.name()));
        let probes = Arc::new(Mutex::new(Latencies::new()?));
        let probing = probe(gateway.probes.clone(), Arc::clone(&probes));
        let phase = tokio::select! {
            phase = gateway.calls.open(&pool, capacity * load, time) => phase?,
            () = probing => bail!("the probes ended"),
        };
        let probes = probes.lock().clone();
        rows.push(Row {
            work,
            load,
            capacity,
            phase,
            probes,
        });
    }
    Ok(rows)
}

impl Row {
    fn good(&self) -> u64 {
        self.phase.tallies.iter().map(|tally| tally.good).sum()
    }

    /// Good answers a second, of the capacity.
    fn goodput(&self) -> f64 {
        float(self.good()) / self.phase.elapsed.as_secs_f64() / self.capacity
    }

    /// When the last part ended in which too few calls were well.
    fn well_after(&self) -> Duration {
        let well = |(all, good): &(u64, u64)| float(*good) >= float(*all) * NEARLY_ALL;
        let last = self.phase.parts.iter().rposition(|part| !well(part));
        let parts = last.map_or(0, |last| last + 1);
        PART * u32::try_from(parts).unwrap_or(u32::MAX)
    }

    fn slowest_refusals(&self) -> Duration {
        let p99 = |tally: &Tally| tally.refusals.micros(0.99);
        Duration::from_micros(self.phase.tallies.iter().map(p99).max().unwrap_or(0))
    }

    /// What is promised, and not so.
    fn broken(&self) -> Vec<String> {
        let name = format!("{} at {}", self.work.name(), self.load);
        let mut broken = Vec::new();
        let least = match self.work {
            Work::Json | Work::Classes => GOODPUT_JSON,
            Work::Streams => GOODPUT_STREAMS,
        };
        if self.load > OVER && self.goodput() < least {
            broken.push(format!("{name}: goodput {:.2}", self.goodput()));
        }
        if self.load < OVER && self.well_after() > WELL {
            broken.push(format!("{name}: well after {:?}", self.well_after()));
        }
        let refusals = self.slowest_refusals();
        if refusals > REFUSALS {
            broken.push(format!("{name}: refusals take {refusals:?}"));
        }
        let probes = Duration::from_micros(self.probes.micros(0.99));
        if probes > PROBES {
            broken.push(format!("{name}: probes take {probes:?}"));
        }
        broken
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let pair = |latencies: &Latencies| {
            if latencies.count() == 0 {
                return "-".to_owned();
            }
            let ms = |share| Duration::from_micros(latencies.micros(share)).as_millis();
            format!("{}, {}", ms(0.5), ms(0.99))
        };
        let row = |(index, tally): (usize, &Tally)| {
            let percent =
                |count: u64| format!("{:.1}", float(count) * 100.0 / float(tally.all().max(1)));
            let name = match self.work {
                Work::Json | Work::Streams => self.work.name(),
                Work::Classes => CLASSES.get(index).copied().unwrap_or_default(),
            };
            vec![
                name.to_owned(),
                self.load.to_string(),
                format!(
                    "{:.0}",
                    float(tally.all()) / self.phase.elapsed.as_secs_f64()
                ),
                format!(
                    "{:.2}",
                    float(tally.good) / self.phase.elapsed.as_secs_f64() / self.capacity
                ),
                percent(tally.good),
                percent(tally.refused),
                percent(tally.given_up),
                percent(tally.broken),
                pair(&tally.answers),
                pair(&tally.refusals),
                pair(&self.probes),
                format!("{:.2}", self.well_after().as_secs_f64()),
            ]
        };
        self.phase.tallies.iter().enumerate().map(row).collect()
    }
}

fn section(rows: &[Row], args: &Args) -> Section {
    Section {
        title: "More requests than the gateway has CPU for",
        text: format!(
            "One thread with {} hundredths of a CPU; clients and backend have the rest. Capacity is what {CLIENTS} \
             clients get that call again at once. Then clients call at `load` times that rate, however slow the \
             answers are, for {} s each, one phase right behind the other, on kept connections, and close theirs \
             after {} s without the whole answer. Streams have 50 events. Goodput: answers in time, of the \
             capacity. In hundredths of the calls: in time, refused, given up, broken. Milliseconds, p50 and p99, \
             of answers, refusals, and `/readyz` with `/livez`. Well: seconds after which 99 of 100 calls of each \
             quarter of a second are answered.",
            args.percent,
            args.seconds,
            PATIENCE.as_secs()
        ),
        header: vec![
            "work", "load", "calls/s", "goodput", "in time", "refused", "given up", "broken",
            "answers", "refusals", "probes", "well",
        ],
        rows: rows.iter().flat_map(Row::cells).collect(),
    }
}
