//! `make bench-quota`: what quotas admit, what they cost, and how right their refusals are, on real
//! processes. It prints the tables and writes them into docs/quota-bounds.md.

use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_admin::clock;
use tests_support::{binary, workspace};

use self::scope::{Progress, Scope};
use crate::page::{self, Section, line};
use crate::process::{open_files, runtime};

mod admitted;
mod call;
mod cost;
mod demand;
mod failures;
mod peer;
mod rig;
mod scope;
mod steady;
mod wait;

/// Connections of 3,000 callers, on both sides of a gateway, and some.
const FILES: u64 = 16_384;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds of the measurement of CPU; the rows of a round are interleaved
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Less of everything, in two minutes; the page is left as it is
    #[arg(long)]
    quick: bool,
    /// Only this part; the page is left as it is
    #[arg(long, value_name = "NAME")]
    only: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Admitted,
    Failures,
    Cost,
    Store,
    Wait,
    Peer,
}

const PARTS: [Part; 6] = [
    Part::Admitted,
    Part::Failures,
    Part::Cost,
    Part::Store,
    Part::Wait,
    Part::Peer,
];

/// Measures, prints, and writes the page after a whole run.
pub(crate) fn run(args: &Args) -> Result<()> {
    open_files(FILES)?;
    let started = Progress(clock::instant());
    let scope = Scope {
        quick: args.quick,
        rounds: if args.quick { 1 } else { args.rounds },
        store: rig::has_store()?,
    };
    let release = binary("tundish")?
        .components()
        .any(|part| part.as_os_str() == "release");
    if !release {
        started.tell("a debug build is measured: TUNDISH_TEST_PROFILE=release takes the other");
    }
    if !scope.store {
        started.tell("this build of tundish has no --quota-store: rows with a store are left out");
    }
    let parts = PARTS
        .into_iter()
        .filter(|part| args.only.is_none_or(|only| only == *part));
    let mut sections = Vec::new();
    let mut failed = Vec::new();
    for part in parts {
        // A runtime of its own: what a part leaves behind ends with it.
        let runtime = runtime(1)?;
        match runtime.block_on(measure(part, &scope, &started)) {
            Ok(section) => sections.extend(section),
            // Ten minutes of other figures are not thrown away.
            Err(error) => {
                started.tell(&format!("{part:?} failed: {error:#}"));
                failed.push(part);
            }
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
    let cores = std::thread::available_parallelism()?;
    let text = page::markdown(
        "####",
        &format!(
            "`make bench-quota` repeats and rewrites this. Real processes over loopback on one machine of \
             {cores} cores, `foundry-sim` as the backend, which reports what it billed."
        ),
        &sections,
    );
    line(&text);
    ensure!(failed.is_empty(), "not measured: {failed:?}");
    if args.only.is_none() && !args.quick && release {
        page::write(
            &workspace().join("docs/quota-bounds.md"),
            "bench-quota",
            &text,
        )?;
        started.tell("docs/quota-bounds.md is written");
    }
    Ok(())
}

async fn measure(part: Part, scope: &Scope, progress: &Progress) -> Result<Option<Section>> {
    Ok(match part {
        Part::Admitted => Some(admitted::measure(scope, progress).await?),
        Part::Failures => Some(failures::measure(scope, progress).await?),
        Part::Cost => Some(cost::measure(scope, progress).await?),
        Part::Store if !scope.store => None,
        Part::Store => Some(steady::measure(scope, progress).await?),
        Part::Wait => Some(wait::measure(scope, progress).await?),
        Part::Peer => Some(peer::measure(scope, progress).await?),
    })
}
