//! The simulation of the shared store of counters, over as many seeds as wanted.

use std::time::Duration;

use anyhow::{Result, bail};
use proxy_admin::clock;
use tests_quota::world::Accidents;
use tests_quota::{Flaw, Scenario, run as story};

/// Interval of progress lines.
const TELL_EVERY: Duration = Duration::from_secs(5);

const KINDS: [(&str, Accidents); 5] = [
    ("no accidents", Accidents::None),
    ("more used than reserved", Accidents::Overuse),
    ("lost, late, wrong, paused, dead", Accidents::All),
    ("store away, Share", Accidents::Outages),
    ("store back empty, Share", Accidents::DataLoss),
];

/// `bench simulation`
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seeds for each kind of accident
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
}

/// Runs every kind of accident, and prints what windows held at most.
#[expect(clippy::print_stdout, reason = "the output of a command")]
pub(crate) fn run(args: &Args) -> Result<()> {
    println!("| accidents | stories | admitted | refused | calls | largest use / limit |");
    println!("|---|---|---|---|---|---|");
    for (name, accidents) in KINDS {
        let (mut admitted, mut refused, mut calls, mut peak) = (0, 0, 0, 0.0_f64);
        let mut told = clock::instant();
        for seed in args.first..args.first.saturating_add(args.seeds) {
            let found = story(Scenario {
                seed,
                accidents,
                flaw: Flaw::None,
            });
            if let Some(breach) = found.breach {
                bail!("{breach}");
            }
            admitted += found.admitted;
            refused += found.refused;
            calls += found.calls;
            peak = peak.max(found.peak);
            if clock::instant().saturating_duration_since(told) > TELL_EVERY {
                told = clock::instant();
                eprint_progress(name, seed.saturating_sub(args.first), args.seeds);
            }
        }
        println!(
            "| {name} | {} | {admitted} | {refused} | {calls} | {peak:.4} |",
            args.seeds
        );
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress of a command")]
fn eprint_progress(name: &str, done: u64, all: u64) {
    eprintln!("[simulation] {name}: {done} of {all} seeds");
}
