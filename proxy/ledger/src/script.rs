//! The script that the store runs, and its arguments and answers.

use proxy_core::quota::{LeaseReply, LeaseReport, LeaseRequest, Profile, StoreWindow};
use redis::Value;

#[cfg(test)]
mod tests;

/// Numbers are doubles in the store's script; beyond this they would not be exact.
const LARGEST: u64 = 1 << 53;

/// The script, as it is sent.
pub(crate) const TEXT: &str = include_str!("script.lua");

/// One counter of a call.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The counter's key, without the prefix of the gateway.
    pub(crate) key: String,
    /// The limit's amount.
    pub(crate) amount: u64,
    /// How the store is to count.
    pub(crate) window: StoreWindow,
    /// The report and the request.
    pub(crate) ask: LeaseRequest,
}

/// The caller and its knowledge.
#[derive(Clone, Debug)]
pub(crate) struct Caller<'a> {
    /// Hash tag and beginning of all keys.
    pub(crate) prefix: &'a str,
    pub(crate) replica: &'a str,
    /// The epoch of the data that it knows; empty at first.
    pub(crate) epoch: &'a str,
    /// Register the replica, and count all.
    pub(crate) counts: bool,
    /// How many replicas it knows.
    pub(crate) replicas: u64,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done: an answer for each item, and the milliseconds in which nothing is granted.
    Done(Vec<LeaseReply>, u64),
    /// The data is not that of the known epoch; nothing was done.
    OtherEpoch,
    /// No period of an item holds the store's time; nothing was done.
    OtherPeriod,
}

/// An answer of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    pub(crate) epoch: String,
    /// The store's clock.
    pub(crate) unix_ms: i64,
    pub(crate) replicas: u64,
}

/// The key of an [`Item`] from the script's name of a counter; `None` for another gateway's.
pub(crate) fn without_prefix<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = key.strip_prefix('{')?.strip_prefix(prefix)?;
    rest.strip_prefix("}:")
}

impl Caller<'_> {
    /// Adds this call to `script`.
    pub(crate) fn fill<'s>(
        &self,
        script: &'s redis::Script,
        items: &[Item],
    ) -> redis::ScriptInvocation<'s> {
        let Self { prefix, .. } = self;
        let mut call = script.prepare_invoke();
        call.key(format!("{{{prefix}}}:epoch"));
        call.key(format!("{{{prefix}}}:replicas"));
        call.arg(self.replica).arg(self.epoch);
        call.arg(u8::from(self.counts)).arg(self.replicas);
        for item in items {
            call.key(format!("{{{prefix}}}:{}", item.key));
            let LeaseRequest {
                need, want, idle, ..
            } = item.ask;
            let (returns, owed, held, turn, lasts) = match &item.ask.report {
                LeaseReport::Grants {
                    returns,
                    owed,
                    lasts,
                } => (&**returns, *owed, 0, 0, *lasts),
                LeaseReport::Permits { held, turn } => (&[][..], 0, *held, *turn, 1),
            };
            call.arg(match item.window {
                StoreWindow::Rolling { .. } => "r",
                StoreWindow::Calendar { .. } => "c",
                StoreWindow::Permits { .. } => "p",
            });
            for number in [item.amount, need, want, owed, held, turn, idle, lasts] {
                call.arg(number.min(LARGEST));
            }
            call.arg(item.ask.look).arg(returns.len());
            for part in returns {
                call.arg(part.at).arg(part.amount.min(LARGEST));
            }
            match &item.window {
                StoreWindow::Rolling {
                    tau_ms,
                    buckets,
                    reach,
                } => {
                    call.arg(*tau_ms).arg(*buckets).arg(*reach);
                }
                StoreWindow::Calendar { lease_ms, periods } => {
                    call.arg(*lease_ms).arg(periods.len());
                    for (start, end) in periods {
                        call.arg(*start).arg(*end);
                    }
                }
                StoreWindow::Permits { lease_ms } => {
                    call.arg(*lease_ms);
                }
            }
        }
        call
    }
}

impl Reply {
    /// Reads what the script returns for `items`; `None` if it is malformed.
    pub(crate) fn read(value: &Value, items: &[Item]) -> Option<Self> {
        let Value::Array(parts) = value else {
            return None;
        };
        let [status, epoch, now, replicas, grace, answers @ ..] = parts.as_slice() else {
            return None;
        };
        let outcome = match text(status)? {
            "ok" if answers.len() == items.len() => {
                let answers = answers.iter().zip(items).map(answer);
                Outcome::Done(answers.collect::<Option<_>>()?, natural(grace)?)
            }
            "epoch" => Outcome::OtherEpoch,
            "clock" => Outcome::OtherPeriod,
            _ => return None,
        };
        Some(Self {
            outcome,
            epoch: text(epoch)?.to_owned(),
            unix_ms: integer(now)?,
            replicas: natural(replicas)?.max(1),
        })
    }
}

fn answer((value, item): (&Value, &Item)) -> Option<LeaseReply> {
    let Value::Array(numbers) = value else {
        return None;
    };
    let [granted, at, lasts, used, ends, elsewhere, profile @ ..] = numbers.as_slice() else {
        return None;
    };
    let [debt, turns, buckets @ ..] = profile else {
        return None;
    };
    let used = natural(used)?;
    let refused = used.saturating_add(item.ask.need) > item.amount && natural(granted)? == 0;
    let told = refused || item.ask.look > 0;
    let profile = match &item.window {
        StoreWindow::Rolling { tau_ms, reach, .. } => Profile::Rolling {
            buckets: buckets.iter().map(natural).collect::<Option<_>>()?,
            ahead: reach.saturating_sub(1),
            debt: natural(debt)?,
            tau_ms: *tau_ms,
            turns_in_ms: natural(turns)?,
        },
        StoreWindow::Calendar { .. } => Profile::Calendar,
        StoreWindow::Permits { .. } => Profile::Permits,
    };
    Some(LeaseReply {
        granted: natural(granted)?,
        at: integer(at)?,
        lasts: natural(lasts)?,
        used,
        ends_in_ms: u64::try_from(integer(ends)?).ok(),
        elsewhere: natural(elsewhere)?,
        profile: told.then_some(profile),
    })
}

fn text(value: &Value) -> Option<&str> {
    if let Value::BulkString(bytes) = value {
        return std::str::from_utf8(bytes).ok();
    }
    None
}

const fn integer(value: &Value) -> Option<i64> {
    if let Value::Int(number) = value {
        return Some(*number);
    }
    None
}

fn natural(value: &Value) -> Option<u64> {
    u64::try_from(integer(value)?).ok()
}
