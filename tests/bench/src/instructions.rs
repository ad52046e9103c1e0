//! `make bench-instructions`: instructions, allocations, clock reads and system calls per request and
//! per event, against a committed baseline.
//!
//! Time is noise on a shared machine; these counts are not, so a loss of two per cent is seen. Valgrind
//! counts instructions of user space on a CPU of its own, which has no SHA-NI: hashing a key costs 3.5k
//! there and about 0.3k outside.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use tests_support::{binary, workspace};

use self::baseline::{Baseline, Figures, Rows};
use self::probe::Case;
use crate::page::{self, line, progress};
use crate::process::runtime;
use crate::subject::{Stage, missing};

mod baseline;
mod callgrind;
mod probe;
mod syscalls;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the figures as the new baseline, for a commit of its own that says why
    #[arg(long)]
    rebase: bool,
    /// The budget that this growth at 1 KB spends; it leaves the baseline
    #[arg(long, value_name = "NAME", requires = "rebase")]
    spend: Option<String>,
    /// Only rows whose name has this text
    #[arg(long, value_name = "TEXT", conflicts_with = "rebase")]
    only: Option<String>,
    /// The gateway to measure
    #[arg(long, value_name = "PATH")]
    tundish: Option<PathBuf>,
}

/// Measures every case, prints the table, and fails if one grew.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let absent = missing(&[
        ("valgrind", "--version"),
        ("callgrind_control", "--version"),
        ("strace", "-V"),
    ]);
    ensure!(
        absent.is_empty(),
        "not installed: {absent:?}; on Debian or Ubuntu: apt-get install valgrind strace"
    );
    let program = match &args.tundish {
        Some(path) => path.clone(),
        None => binary("tundish")?,
    };
    let file = workspace().join("tests/bench/instructions.json");
    let mut baseline = Baseline::read(&file)?;
    let wanted = |case: &Case| {
        let only = args.only.as_deref();
        only.is_none_or(|text| case.name.contains(text))
    };
    let now = runtime(1)?.block_on(measure(&program, wanted))?;
    line(&baseline::table(&now, &baseline.rows));
    line(&baseline.budgets());
    if args.rebase {
        baseline.rebase(now, args.spend.as_deref())?;
        baseline.write(&file)?;
        let text = format!(
            "{}\n{}",
            baseline::table(&baseline.rows, &Rows::new()),
            baseline.budgets()
        );
        page::write(
            &workspace().join("docs/benchmarks.md"),
            "bench-instructions",
            &text,
        )?;
        progress(&format!("{} is written", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let grown = baseline::grown(&now, &baseline);
    for text in &grown {
        line(&format!("GROWN: {text}"));
    }
    let complete = args.only.is_some() || now.keys().eq(baseline.rows.keys());
    ensure!(complete, "the baseline has other rows: rebase it");
    Ok(if grown.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn measure(program: &Path, wanted: impl Fn(&Case) -> bool) -> Result<Rows> {
    let stage = Stage::start().await?;
    let mut rows = Rows::new();
    for case in probe::CASES.iter().filter(|case| wanted(case)) {
        progress(&format!("[instructions] {}", case.name));
        let counts = probe::counts(&stage, case, program).await?;
        let syscalls = probe::syscalls(&stage, case, program).await?;
        let figures = Figures::new(counts, syscalls);
        rows.insert(case.name.to_owned(), figures);
    }
    if rows.is_empty() {
        bail!("no row has that text in its name");
    }
    Ok(rows)
}
