//! `tundish who`: which consumers called a model, by access logs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde::Serialize;

use crate::access_log::{Line, Lines, Record, newer};
use crate::args::{Output, WhoArgs};
use crate::columns::{Columns, or_dash};
use crate::report;

#[cfg(test)]
mod tests;

const HEAD: [&str; 8] = [
    "CONSUMER",
    "MODEL",
    "DEPLOYMENT",
    "CALLS",
    "SHARE",
    "TOKENS",
    "FAILED",
    "LAST SEEN",
];
/// Stands for standard input.
const STDIN: &str = "-";

/// The calls of all consumers, the most first.
#[derive(Debug, Serialize)]
struct Calls {
    /// Requests of the logs for the model.
    calls: u64,
    /// Lines that are no event of the gateway, such as those of other programs.
    broken_lines: u64,
    callers: Vec<Caller>,
}

/// The calls of one consumer by one name of the model.
#[derive(Debug, PartialEq, Serialize)]
struct Caller {
    consumer: Arc<str>,
    /// As it was asked for.
    model: Arc<str>,
    /// `backend/deployment` that served; empty if none did.
    deployment: String,
    calls: u64,
    /// Of all calls for the model, in per cent.
    share: f64,
    /// Input and output.
    tokens: u64,
    /// Calls without a good answer.
    failed: u64,
    last_seen: Timestamp,
}

/// Adds up requests.
#[derive(Default)]
struct Count {
    callers: BTreeMap<(Arc<str>, Arc<str>, String), Sum>,
    broken_lines: u64,
}

#[derive(Default)]
struct Sum {
    calls: u64,
    tokens: u64,
    failed: u64,
    last_us: i64,
}

/// Prints who called a model, how much of its calls that were, and when the last one came.
///
/// # Errors
/// A log cannot be read, has a newer version than this program, or has no request.
pub fn who(args: &WhoArgs) -> Result<ExitCode> {
    let mut count = Count::default();
    for log in &args.logs {
        let read = if log.as_os_str() == STDIN {
            count.read(io::stdin().lock(), args.model.as_deref())
        } else {
            let file = || File::open(log).map_err(anyhow::Error::from);
            file().and_then(|file| count.read(file, args.model.as_deref()))
        };
        read.with_context(|| format!("cannot read the log {}", shown(log)))?;
    }
    let calls = count.calls();
    ensure!(calls.calls > 0, without_call(args, &calls));
    match args.output.format {
        Output::Json => report::line(&serde_json::to_string_pretty(&calls)?),
        Output::Text => {
            for line in lines(&calls) {
                report::line(&line);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(log: &Path) -> String {
    if log.as_os_str() == STDIN {
        "of standard input".to_owned()
    } else {
        log.display().to_string()
    }
}

fn without_call(args: &WhoArgs, calls: &Calls) -> String {
    let of_model = args.model.as_ref();
    let of_model = of_model.map_or_else(String::new, |model| format!(" for model {model:?}"));
    let broken = match calls.broken_lines {
        0 => String::new(),
        lines => format!("; {lines} of its lines are not JSON as --log-format json writes it"),
    };
    format!("no request{of_model} in the log{broken}")
}

fn lines(calls: &Calls) -> Vec<String> {
    let mut columns = Columns::new(HEAD);
    for caller in &calls.callers {
        columns.row([
            or_dash(&caller.consumer),
            or_dash(&caller.model),
            or_dash(&caller.deployment),
            caller.calls.to_string(),
            format!("{:.1} %", caller.share),
            caller.tokens.to_string(),
            caller.failed.to_string(),
            format!("{:.0}", caller.last_seen),
        ]);
    }
    columns.lines()
}

// === impl Count ===

impl Count {
    fn read(&mut self, log: impl Read, model: Option<&str>) -> Result<()> {
        let mut lines = Lines::new(log);
        while let Some(line) = lines.read()? {
            match line {
                Line::Request(record) => {
                    if model.is_none_or(|model| is_for(&record, model)) {
                        self.add(&record);
                    }
                }
                Line::Other => {}
                Line::Broken(_) => self.broken_lines = self.broken_lines.saturating_add(1),
                Line::Newer(version) => return Err(newer(lines.number, version)),
            }
        }
        Ok(())
    }

    fn add(&mut self, record: &Record) {
        // Lists of models and refusals without a model name none.
        let Some(model) = record.model.clone() else {
            return;
        };
        let consumer = record.consumer.clone().unwrap_or_default();
        let by = (consumer, model, served(record));
        let sum = self.callers.entry(by).or_default();
        sum.calls = sum.calls.saturating_add(1);
        let usage = record.usage;
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        sum.tokens = sum.tokens.saturating_add(tokens);
        sum.failed = sum.failed.saturating_add(u64::from(record.code != "ok"));
        sum.last_us = sum.last_us.max(record.end_us);
    }

    fn calls(self) -> Calls {
        let all: u64 = self.callers.values().map(|sum| sum.calls).sum();
        let callers = self.callers.into_iter();
        let callers = callers.map(|((consumer, model, deployment), sum)| Caller {
            consumer,
            model,
            deployment,
            calls: sum.calls,
            share: percent(sum.calls, all),
            tokens: sum.tokens,
            failed: sum.failed,
            last_seen: Timestamp::from_microsecond(sum.last_us).unwrap_or_default(),
        });
        let mut callers: Vec<_> = callers.collect();
        callers.sort_by_key(|caller| std::cmp::Reverse(caller.calls));
        Calls {
            calls: all,
            broken_lines: self.broken_lines,
            callers,
        }
    }
}

/// Whether it asked for the model, or was served by a deployment of that name, with or without its backend.
fn is_for(record: &Record, model: &str) -> bool {
    let names = [record.model.as_deref(), record.deployment.as_deref()];
    names.contains(&Some(model)) || served(record) == model
}

/// `namespace/backend/deployment`; empty if none served.
fn served(record: &Record) -> String {
    let served = record.backend.as_ref().zip(record.deployment.as_ref());
    served.map_or_else(String::new, |(backend, name)| format!("{backend}/{name}"))
}

/// Rounded to a tenth.
fn percent(part: u64, of: u64) -> f64 {
    let tenths = part.saturating_mul(2_000).checked_div(of).unwrap_or(0);
    f64::from(u32::try_from(tenths.saturating_add(1) / 2).unwrap_or(0)) / 10.0
}
