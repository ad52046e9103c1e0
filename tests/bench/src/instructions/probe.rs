//! The cases, and how each is counted: below callgrind for a fixed number of requests, and below strace
//! in a run of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_support::Process;

use super::callgrind::Counts;
use super::syscalls;
use crate::figures::float;
use crate::load::events::stepped;
use crate::load::{self, Connections, Target};
use crate::process::rest;
use crate::subject::{Running, Settings, Stage, Subject};

/// A row of the table.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    subject: Subject,
    unit: Unit,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// One request of many on one connection, with a body of this size.
    Request(usize),
    /// An event that comes alone: a long stream less a short one, so that the head does not count.
    Event,
}

const LOG: Settings = Settings {
    log: true,
    ..Settings::PLAIN
};
const LIMITS: Settings = Settings {
    limits: 10,
    ..Settings::PLAIN
};

/// A body that does not arrive in one read.
const LARGE: usize = 200 * 1024;

/// The case whose growth budgets are about.
pub(super) const MAIN: &str = "tundish, 1 KB";

pub(super) const CASES: [Case; 8] = [
    case("bare hyper, 1 KB", Subject::Bare, Unit::Request(1024)),
    case("bare hyper, 200 KB", Subject::Bare, Unit::Request(LARGE)),
    case("bare hyper, event", Subject::Bare, Unit::Event),
    case(MAIN, Subject::Tundish(Settings::PLAIN), Unit::Request(1024)),
    case(
        "tundish, 1 KB, access log",
        Subject::Tundish(LOG),
        Unit::Request(1024),
    ),
    case(
        "tundish, 1 KB, 10 limits",
        Subject::Tundish(LIMITS),
        Unit::Request(1024),
    ),
    case(
        "tundish, 200 KB",
        Subject::Tundish(Settings::PLAIN),
        Unit::Request(LARGE),
    ),
    case(
        "tundish, event",
        Subject::Tundish(Settings::PLAIN),
        Unit::Event,
    ),
];

const fn case(name: &'static str, subject: Subject, unit: Unit) -> Case {
    Case {
        name,
        subject,
        unit,
    }
}

impl Case {
    /// Whether its bodies come in pieces: the kernel decides in how many.
    const fn is_in_pieces(&self) -> bool {
        matches!(self.unit, Unit::Request(LARGE))
    }

    /// How many rounds, each of how many of these requests.
    fn rounds(&self, requests: u64) -> (u64, u64) {
        if self.is_in_pieces() {
            (ROUNDS, requests / ROUNDS)
        } else {
            (1, requests)
        }
    }
}

/// Whether chance decides how often a case reads the clock: where bodies come in pieces each wait for one
/// does, and the bare proxy does whenever it looks for work.
pub(super) fn reads_clock_by_chance(name: &str) -> bool {
    let mut cases = CASES.iter().filter(|case| case.name == name);
    cases.any(|case| case.is_in_pieces() || matches!(case.subject, Subject::Bare))
}

/// Requests before anything is counted: sizes are learned, vocabularies loaded, code is translated.
const WARM: u64 = 200;

/// Requests between the start of counting and the first that counts.
const SETTLE: u64 = 100;

/// Requests that count. More do not steady the figure.
const COUNTED: u64 = 500;

/// Requests below strace.
const TRACED: u64 = 1000;

/// Rounds of bodies that come in pieces. The one in the fewest pieces counts: each more costs a copy, of
/// which callgrind counts every byte, and the kernel decides on it.
const ROUNDS: u64 = 25;

/// Events of the two streams.
const SHORT: u64 = 100;
const LONG: u64 = 1100;

/// The table of strace, in the stage's folder.
const TABLE: &str = "strace.out";

/// Until a tool has done what it was asked.
const TOOL: Duration = Duration::from_secs(20);

/// Instructions and calls of one unit, as sums and the number that they are sums of.
pub(super) async fn counts(stage: &Stage, case: &Case, program: &Path) -> Result<(Counts, f64)> {
    let file = stage.folder().join("callgrind.out");
    let wrapper = [
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        "--instr-atstart=no".to_owned(),
        format!("--callgrind-out-file={}", file.display()),
    ];
    let running = stage.run(case.subject, program, &wrapper).await?;
    let target = stage.target(case.subject, &running)?;
    let mut open = warm(&running, &target, case.unit).await?;
    control(&running, &["-i", "on"])?;
    let counted = match case.unit {
        Unit::Request(_) => {
            open.send(SETTLE).await?;
            let (rounds, requests) = case.rounds(COUNTED);
            let mut all = Vec::new();
            for part in 1..=rounds {
                control(&running, &["-z"])?;
                open.send(requests).await?;
                all.push(dump(&running, &file, part)?);
            }
            let least = all.into_iter().min_by_key(|counts| counts.instructions);
            (least.context("no round")?, float(requests))
        }
        Unit::Event => {
            stream(stage, &running, SHORT).await?;
            control(&running, &["-z"])?;
            stream(stage, &running, SHORT).await?;
            let short = dump(&running, &file, 1)?;
            stream(stage, &running, LONG).await?;
            let long = dump(&running, &file, 2)?;
            (long.since(short), float(LONG - SHORT))
        }
    };
    Ok(counted)
}

/// System calls of one unit, by name.
pub(super) async fn syscalls(
    stage: &Stage,
    case: &Case,
    program: &Path,
) -> Result<BTreeMap<String, f64>> {
    let running = stage.run(case.subject, program, &[]).await?;
    let target = stage.target(case.subject, &running)?;
    let mut open = warm(&running, &target, case.unit).await?;
    let (rounds, requests) = case.rounds(TRACED);
    let mut all = Vec::new();
    for _ in 0..rounds {
        let strace = attached(stage, &running).await?;
        let units = match case.unit {
            Unit::Request(_) => {
                open.send(requests).await?;
                requests
            }
            Unit::Event => {
                stream(stage, &running, LONG).await?;
                LONG
            }
        };
        all.push((written(stage, strace).await?, units));
    }
    let least = all
        .into_iter()
        .min_by_key(|(calls, _)| calls.values().sum::<u64>());
    let (calls, units) = least.context("no round")?;
    let each = calls
        .into_iter()
        .map(|(name, calls)| (name, float(calls) / float(units)));
    Ok(each.collect())
}

/// strace, once it counts.
async fn attached(stage: &Stage, running: &Running) -> Result<Process> {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-p", &running.id.to_string(), "-o"]);
    command.arg(stage.folder().join(TABLE));
    let mut strace = Process::spawn("strace", &mut command, stage.folder())?;
    let attached = strace.wait_for_line(" attached", TOOL).await;
    attached.context("strace cannot attach: it needs root, or kernel.yama.ptrace_scope=0")?;
    Ok(strace)
}

/// Calls by name. strace leaves the process alone and writes its table.
async fn written(stage: &Stage, strace: Process) -> Result<BTreeMap<String, u64>> {
    let file = stage.folder().join(TABLE);
    strace.terminate(TOOL).await?;
    let text = std::fs::read_to_string(&file).context("read the table of strace")?;
    std::fs::remove_file(&file).context("remove the table of strace")?;
    let calls = syscalls::read(&text);
    ensure!(!calls.is_empty(), "strace has counted nothing: {text}");
    Ok(calls)
}

async fn warm(running: &Running, target: &Target, unit: Unit) -> Result<Connections> {
    let bytes = match unit {
        Unit::Request(bytes) => bytes,
        Unit::Event => 1024,
    };
    let request = load::chat(target.address, &running.header, bytes);
    let mut open = Connections::open(target, &request, 1).await?;
    open.send(WARM).await?;
    rest(running.id).await?;
    Ok(open)
}

async fn stream(stage: &Stage, running: &Running, events: u64) -> Result<()> {
    let target = Target::plain(running.target);
    stepped(&target, &running.header, stage.plain()?, events).await
}

fn control(running: &Running, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("callgrind_control");
    let output = command.args(arguments).arg(running.id.to_string()).output();
    let output = output.context("run callgrind_control")?;
    ensure!(
        output.status.success(),
        "callgrind_control {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Writes what was counted since the last dump, and reads it.
fn dump(running: &Running, file: &Path, part: u64) -> Result<Counts> {
    control(running, &["-d"])?;
    let file = format!("{}.{part}", file.display());
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    std::fs::remove_file(&file).with_context(|| format!("remove {file}"))?;
    Counts::read(&text)
}
