//! The report of a replay, as text and as JSON. The names of the JSON's fields are an interface.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use proxy_core::quota::Wait;
use proxy_core::whatif::{ConsumerCounts, LimitDenial, LimitReplay, Replay};
use serde::Serialize;

use crate::columns::Columns;

/// The outcome of a replay.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) log: LogReport,
    /// Requests that were replayed: admitted, denied by a limit, or refused for another reason.
    pub(super) replayed: u64,
    pub(super) admitted: u64,
    pub(super) denied: u64,
    /// Those of the admitted that a limit in Shadow would have refused.
    pub(super) shadow_denied: u64,
    /// Those of the admitted that a deployment without a price answered: their cost is unknown.
    pub(super) unpriced: u64,
    /// Refused for another reason than a limit.
    pub(super) refused: Vec<RefusedReport>,
    /// Requests of the log that were not replayed, by reason.
    pub(super) skipped: Vec<SkippedReport>,
    /// Replayed later than they began: their line came too late.
    pub(super) late: u64,
    /// Every limit of the manifests, in the order of its name.
    pub(super) limits: Vec<LimitReport>,
    /// The first denials; `denied` counts all.
    pub(super) denials: Vec<DenialReport>,
}

/// The log as it was read.
#[derive(Debug, Default, Serialize)]
pub(super) struct LogReport {
    pub(super) lines: u64,
    pub(super) requests: u64,
    /// Lines of other targets than `access`.
    pub(super) other_lines: u64,
    pub(super) broken_lines: u64,
    /// The first of them.
    pub(super) broken: Vec<BrokenReport>,
    /// When the first request began and the last one ended.
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct BrokenReport {
    pub(super) line: u64,
    pub(super) error: String,
}

#[derive(Debug, Serialize)]
pub(super) struct RefusedReport {
    pub(super) code: &'static str,
    pub(super) count: u64,
    pub(super) consumers: Vec<ConsumerReport>,
}

/// Why a request of the log is not replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Skipped {
    /// Listing models takes no quota.
    AnsweredByGateway,
    /// Refused for another reason than a limit.
    RefusedInLog,
    /// Refused by a limit, and the consumer has no other request on that model.
    NoUsageKnown,
    /// Ended before its rule was found.
    NotAdmitted,
}

#[derive(Debug, Serialize)]
pub(super) struct SkippedReport {
    pub(super) reason: Skipped,
    /// The code in the log.
    pub(super) code: String,
    pub(super) count: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ConsumerReport {
    pub(super) name: String,
    pub(super) count: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct LimitReport {
    /// `namespace/quota/limit`.
    pub(super) name: String,
    pub(super) unit: &'static str,
    /// As it is enforced: divided by `--replicas`.
    pub(super) amount: u64,
    pub(super) mode: &'static str,
    /// Requests that it refused, or would have in Shadow.
    pub(super) denied: u64,
    /// The most often refused first.
    pub(super) consumers: Vec<ConsumerReport>,
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
    pub(super) longest_wait_ms: Option<u64>,
    /// Those that ask for more than the whole limit, and would never fit.
    pub(super) never_fit: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct DenialReport {
    pub(super) line: u64,
    pub(super) time: String,
    pub(super) request_id: String,
    pub(super) consumer: String,
    pub(super) model: Option<String>,
    pub(super) limit: String,
    /// The code that the gateway would answer.
    pub(super) code: &'static str,
    /// `null` if the request would never fit.
    pub(super) wait_ms: Option<u64>,
}

impl Report {
    pub(super) fn new(
        log: LogReport,
        skipped: &BTreeMap<(Skipped, String), u64>,
        replay: &Replay<'_>,
    ) -> Self {
        let tally = replay.tally();
        let refused: Vec<_> = tally
            .refused
            .iter()
            .map(|(code, of)| RefusedReport {
                code,
                count: of.values().sum(),
                consumers: consumers(of),
            })
            .collect();
        let refusals: u64 = refused.iter().map(|one| one.count).sum();
        let denial = |denial: &LimitDenial| {
            let limit = replay.limits().get(denial.limit);
            DenialReport::new(denial, limit)
        };
        Self {
            log,
            replayed: tally
                .admitted
                .saturating_add(tally.denied)
                .saturating_add(refusals),
            admitted: tally.admitted,
            denied: tally.denied,
            shadow_denied: tally.shadow_denied,
            unpriced: tally.unpriced,
            refused,
            skipped: skipped.iter().map(SkippedReport::new).collect(),
            late: tally.late,
            limits: replay.limits().iter().map(LimitReport::new).collect(),
            denials: tally.denials.iter().map(denial).collect(),
        }
    }
}

impl LimitReport {
    fn new(replay: &LimitReplay) -> Self {
        let (declared, tally) = (replay.declared(), &replay.tally);
        Self {
            name: declared.name.to_string(),
            unit: declared.limit.unit.as_str(),
            amount: replay.limit.amount,
            mode: declared.quota.mode.as_str(),
            denied: tally.count,
            consumers: consumers(&tally.consumers),
            first: (tally.count > 0).then(|| time(tally.first_ms)),
            last: (tally.count > 0).then(|| time(tally.last_ms)),
            longest_wait_ms: tally.longest_ms,
            never_fit: tally.never,
        }
    }
}

impl DenialReport {
    fn new(denial: &LimitDenial, limit: Option<&LimitReplay>) -> Self {
        let limit = limit.map(LimitReplay::declared);
        Self {
            line: denial.line,
            time: time(denial.at_ms),
            request_id: denial.request_id.clone(),
            consumer: denial.consumer.to_string(),
            model: denial.model.as_deref().map(str::to_owned),
            limit: limit
                .map(|limit| limit.name.to_string())
                .unwrap_or_default(),
            code: limit.map_or("", |limit| limit.limit.code().as_str()),
            wait_ms: match denial.wait {
                Wait::Millis(wait) => Some(wait),
                Wait::Never => None,
            },
        }
    }
}

/// The most often refused first, then by name.
fn consumers(of: &ConsumerCounts) -> Vec<ConsumerReport> {
    let mut all: Vec<_> = of
        .iter()
        .map(|(name, count)| ConsumerReport {
            name: name.to_string(),
            count: *count,
        })
        .collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.count));
    all
}

/// RFC 3339 in UTC, with milliseconds.
pub(super) fn time(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(
        |_error| format!("{unix_ms} ms"),
        |timestamp| format!("{timestamp:.3}"),
    )
}

impl SkippedReport {
    fn new(((reason, code), count): (&(Skipped, String), &u64)) -> Self {
        Self {
            reason: *reason,
            code: code.clone(),
            count: *count,
        }
    }
}

// === As text ===

/// Consumers in a cell, so that it stays on one line; the JSON has all.
const NAMED: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(f)?;
        if self.limits.iter().any(|one| one.denied > 0) {
            writeln!(f)?;
            lines(f, &self.limits_hit())?;
        }
        if !self.denials.is_empty() {
            let shown = u64::try_from(self.denials.len()).unwrap_or(u64::MAX);
            if shown < self.denied {
                writeln!(f, "\nthe first {shown} of {} denials", self.denied)?;
            } else {
                writeln!(f, "\nthe denials")?;
            }
            lines(f, &self.first_denials())?;
        }
        Ok(())
    }
}

fn lines<const N: usize>(f: &mut fmt::Formatter<'_>, columns: &Columns<N>) -> fmt::Result {
    columns
        .lines()
        .iter()
        .try_for_each(|line| writeln!(f, "{line}"))
}

impl Skipped {
    const fn as_text(self) -> &'static str {
        match self {
            Self::AnsweredByGateway => "answered by the gateway itself",
            Self::RefusedInLog => "refused, not by a limit",
            Self::NoUsageKnown => "the consumer has no other request on the model to go by",
            Self::NotAdmitted => "ended before it was admitted",
        }
    }
}

impl Report {
    fn limits_hit(&self) -> Columns<7> {
        let mut columns = Columns::new([
            "LIMIT",
            "MODE",
            "DENIED",
            "CONSUMERS",
            "FIRST",
            "LAST",
            "LONGEST WAIT",
        ]);
        for one in self.limits.iter().filter(|one| one.denied > 0) {
            let wait = match (one.never_fit, one.longest_wait_ms) {
                (0, None) => "-".to_owned(),
                (0, Some(wait)) => seconds(wait),
                (never, None) => format!("never ({never})"),
                (never, Some(wait)) => format!("{}, never ({never})", seconds(wait)),
            };
            columns.row([
                one.name.clone(),
                one.mode.to_owned(),
                one.denied.to_string(),
                named(&one.consumers),
                one.first.clone().unwrap_or_default(),
                one.last.clone().unwrap_or_default(),
                wait,
            ]);
        }
        columns
    }

    fn first_denials(&self) -> Columns<6> {
        let head = ["TIME", "LINE", "CONSUMER", "MODEL", "LIMIT", "WAIT"];
        let mut columns = Columns::new(head);
        for one in &self.denials {
            columns.row([
                one.time.clone(),
                one.line.to_string(),
                plain(&one.consumer),
                one.model.as_deref().map(plain).unwrap_or_default(),
                one.limit.clone(),
                one.wait_ms.map_or_else(|| "never".to_owned(), seconds),
            ]);
        }
        columns
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.log.first, &self.log.last) {
            (Some(first), Some(last)) => {
                writeln!(f, "{} requests from {first} to {last}", self.log.requests)?;
            }
            _ => writeln!(
                f,
                "no request in the log; was it written with --log-format json?"
            )?,
        }
        let mut count = |what: &str, count: u64, more: &str| {
            writeln!(
                f,
                "{}",
                format!("  {what:<14}{count:>10}  {more}").trim_end()
            )
        };
        count("replayed", self.replayed, "")?;
        count("admitted", self.admitted, "")?;
        count("denied", self.denied, "by a limit")?;
        count(
            "shadow-denied",
            self.shadow_denied,
            "admitted; a limit in Shadow would have refused",
        )?;
        if self.unpriced > 0 {
            let more = "admitted; of deployments without a price, so their cost is unknown";
            count("unpriced", self.unpriced, more)?;
        }
        for one in &self.refused {
            let more = format!("{}: {}", one.code, named(&one.consumers));
            count("refused", one.count, &more)?;
        }
        for one in &self.skipped {
            let more = format!("{} in the log: {}", plain(&one.code), one.reason.as_text());
            count("skipped", one.count, &more)?;
        }
        if self.late > 0 {
            let more = "came more than 10 minutes late in the log, and were replayed then";
            count("late", self.late, more)?;
        }
        if self.log.other_lines > 0 {
            count("other lines", self.log.other_lines, "not of the access log")?;
        }
        if self.log.broken_lines > 0 {
            count("broken lines", self.log.broken_lines, "")?;
        }
        for one in &self.log.broken {
            writeln!(f, "    line {}: {}", one.line, plain(&one.error))?;
        }
        Ok(())
    }
}

fn named(consumers: &[ConsumerReport]) -> String {
    let mut text = String::new();
    for (index, one) in consumers.iter().take(NAMED).enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing to a string cannot fail.
        write!(text, "{comma}{} {}", plain(&one.name), one.count).ok();
    }
    match consumers.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{text} and {more} more"),
        Some(_) | None => text,
    }
}

fn seconds(wait_ms: u64) -> String {
    format!("{}.{} s", wait_ms / 1_000, wait_ms % 1_000 / 100)
}

/// Text that callers chose, for a terminal: without control characters, and not too long.
fn plain(text: &str) -> String {
    let shown = text.chars().take(128);
    shown
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
