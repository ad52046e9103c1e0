//! `tundish simulate`: replays an access log against other manifests.
//!
//! Reads the log twice. The first pass measures how far it is out of order and what requests usually
//! use; the second replays. Neither holds more than the requests that are open at one time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proxy_admin::clock;
use proxy_core::names::{Code, Operation};
use proxy_core::table::Table;
use proxy_core::whatif::{LoggedRequest, Replay, ReplaySettings};

use self::report::{BrokenReport, LogReport, Report, Skipped};
use self::sample::Samples;
use crate::access_log::{Line, Lines, Record, newer};
use crate::args::{Output, SimulateArgs};
use crate::manifests::Folder;

mod report;
mod sample;
#[cfg(test)]
mod tests;

/// Requests wait this long, in the log's time, for earlier ones on later lines. A log is in the order
/// of ends, to a second, so a request that lasted longer is replayed after its start. Ten minutes cover
/// the longest answers in practice, and bound the requests that wait.
const MAX_LAG_US: i64 = 10 * 60 * 1_000_000;
/// Broken lines that the report lists; it counts all.
const BROKEN_LISTED: usize = 5;
/// How often `--progress` prints, and after how many lines it reads the clock: about every 20 ms.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const PROGRESS_LINES: u64 = 4_096;
/// How a file of gzip begins (RFC 1952, 2.3.1), as rotated logs are.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Replays the log and prints which requests would be denied, when and by which limit.
///
/// # Errors
/// The log or the folder cannot be read, or the log has no request.
pub fn simulate(args: &SimulateArgs) -> Result<ExitCode> {
    let mut folder = Folder::new(
        &args.manifests,
        &args.namespace.name,
        args.namespace.host_grants.clone(),
    )
    .with_backend_hosts(&args.namespace.backend_hosts);
    folder.refresh()?;
    let outcome = folder.compile();
    for finding in &outcome.findings {
        crate::report::note(&finding.to_string());
    }
    ensure!(
        !outcome.compiled.verdicts.is_empty(),
        "no AIBackend, AIRoute or AIQuota in the *.yaml, *.yml and *.json files of {}",
        args.manifests.display()
    );
    let table = Table::new(outcome.compiled.contents);
    let report = replay(args, &table)?;
    ensure!(
        report.log.requests > 0,
        without_request(&args.log, &report.log)
    );
    match args.output.format {
        Output::Text => crate::report::line(report.to_string().trim_end()),
        Output::Json => crate::report::line(&serde_json::to_string_pretty(&report)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn replay(args: &SimulateArgs, table: &Table) -> Result<Report> {
    let context = || format!("cannot read the log {}", args.log.display());
    let mut progress = Progress::new(args.progress, &args.log).with_context(context)?;
    let survey = survey(&args.log, &mut progress).with_context(context)?;
    let settings = ReplaySettings {
        host: args.host.as_ref().map(|host| host.to_ascii_lowercase()),
        replicas: args.replicas,
        denials: args.denials,
        lag_us: survey.lag_us.min(MAX_LAG_US),
    };
    let mut replay = Replay::new(table, settings);
    let mut log = LogReport::default();
    let mut skipped: BTreeMap<(Skipped, String), u64> = BTreeMap::new();
    let mut ends: Option<(i64, i64)> = None;
    let mut lines = Lines::new(File::open(&args.log).with_context(context)?);
    progress.pass("replaying");
    while let Some(line) = lines.read().with_context(context)? {
        progress.look(&lines);
        match line {
            // The first pass ends at the first of them.
            Line::Newer(_) => {}
            Line::Other => log.other_lines = log.other_lines.saturating_add(1),
            Line::Broken(error) => {
                log.broken_lines = log.broken_lines.saturating_add(1);
                if log.broken.len() < BROKEN_LISTED {
                    let line = lines.number;
                    log.broken.push(BrokenReport { line, error });
                }
            }
            Line::Request(record) => {
                log.requests = log.requests.saturating_add(1);
                let (first, last) = ends.unwrap_or((record.start_us, record.end_us));
                ends = Some((first.min(record.start_us), last.max(record.end_us)));
                let logged_us = record.end_us;
                let code = record.code.clone();
                match replayable(*record, &survey.samples) {
                    Ok(request) => replay.push(request, logged_us),
                    Err(reason) => {
                        let count = skipped.entry((reason, code)).or_default();
                        *count = count.saturating_add(1);
                    }
                }
            }
        }
    }
    replay.finish();
    log.lines = lines.number;
    log.first = ends.map(|(first, _)| report::time(first.div_euclid(1_000)));
    log.last = ends.map(|(_, last)| report::time(last.div_euclid(1_000)));
    Ok(Report::new(log, &skipped, &replay))
}

/// Why a log has no request to replay.
fn without_request(path: &Path, log: &LogReport) -> String {
    let name = path.display();
    let mut start = [0; 2];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    if read.is_ok() && start == GZIP {
        return format!("the log {name} is compressed: unpack it with gunzip first");
    }
    let Some(first) = log.broken.first() else {
        return match log.other_lines {
            0 => format!("the log {name} is empty"),
            lines => format!(
                "no request in the log {name}: its {lines} lines are other events; --no-access-log \
                 and filters such as warn leave requests out"
            ),
        };
    };
    format!(
        "no request in the log {name}: {} of its {} lines are not JSON as --log-format json writes it; \
         line {}: {}",
        log.broken_lines, log.lines, first.line, first.error
    )
}

/// The result of the first pass.
struct Survey {
    samples: Samples,
    /// The longest time between a request's start and its line, by the log's own time.
    lag_us: i64,
}

fn survey(log: &Path, progress: &mut Progress) -> Result<Survey> {
    let mut samples = Samples::default();
    let (mut lag_us, mut latest_us) = (0, i64::MIN);
    let mut lines = Lines::new(File::open(log)?);
    progress.pass("reading");
    while let Some(line) = lines.read()? {
        progress.look(&lines);
        let record = match line {
            Line::Request(record) => record,
            Line::Newer(version) => return Err(newer(lines.number, version)),
            Line::Other | Line::Broken(_) => continue,
        };
        latest_us = record.end_us.max(latest_us);
        lag_us = latest_us.saturating_sub(record.start_us).max(lag_us);
        if record.code == "ok" && record.operation != Some(Operation::Models) {
            samples.add(&record);
        }
    }
    samples.sort();
    Ok(Survey { samples, lag_us })
}

/// The request to replay, or why there is none.
fn replayable(mut record: Record, samples: &Samples) -> Result<LoggedRequest, Skipped> {
    if record.operation == Some(Operation::Models) {
        return Err(Skipped::AnsweredByGateway);
    }
    let by_limit = [
        Code::RateLimited,
        Code::QuotaExceeded,
        Code::ConcurrencyExceeded,
    ];
    let code = Code::ALL
        .into_iter()
        .find(|code| code.as_str() == record.code);
    if code.is_some_and(|code| by_limit.contains(&code)) {
        let usual = record
            .consumer
            .as_ref()
            .zip(record.model.as_ref())
            .and_then(|(consumer, model)| samples.median(consumer, model))
            .ok_or(Skipped::NoUsageKnown)?;
        record.usage = usual.usage;
        record.held = usual.held;
        record.end_us = record.start_us.saturating_add(usual.lasted_us);
        return logged(record, false);
    }
    let used = record.usage.total_tokens() > 0 || record.estimated;
    if code.is_some() && !used {
        return Err(Skipped::RefusedInLog);
    }
    if record.operation.is_none() || record.rule.is_none() {
        return Err(Skipped::NotAdmitted);
    }
    let released = !used && record.code != "ok";
    logged(record, released)
}

fn logged(record: Record, released: bool) -> Result<LoggedRequest, Skipped> {
    Ok(LoggedRequest {
        line: record.line,
        request_id: record.request_id,
        start_us: record.start_us,
        end_us: record.end_us,
        operation: record.operation.unwrap_or(Operation::ChatCompletions),
        model: record.model,
        consumer: record.consumer.ok_or(Skipped::NotAdmitted)?,
        route: record.route,
        rule: record.rule,
        backend: record.backend,
        deployment: record.deployment,
        usage: record.usage,
        held: record.held,
        released,
    })
}

/// Prints how far a pass is.
struct Progress {
    wanted: bool,
    printed: Instant,
    size: u64,
    pass: &'static str,
}

impl Progress {
    fn new(wanted: bool, log: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(log)?;
        ensure!(
            metadata.is_file(),
            "it is not a file, so it cannot be read twice"
        );
        Ok(Self {
            wanted,
            printed: clock::instant(),
            size: metadata.len(),
            pass: "",
        })
    }

    fn pass(&mut self, pass: &'static str) {
        self.pass = pass;
    }

    fn look<R>(&mut self, lines: &Lines<R>) {
        if !self.wanted || !lines.number.is_multiple_of(PROGRESS_LINES) {
            return;
        }
        let now = clock::instant();
        if now.saturating_duration_since(self.printed) < PROGRESS_EVERY {
            return;
        }
        self.printed = now;
        let percent = lines
            .bytes
            .saturating_mul(100)
            .checked_div(self.size)
            .map_or(100, |percent| percent.min(100));
        let (pass, number) = (self.pass, lines.number);
        crate::report::note(&format!("{pass}: {number} lines, {percent} %"));
    }
}
