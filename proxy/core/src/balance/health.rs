//! What an endpoint's answers say of it: whether it takes part, waits, or is tried by a single call.
//!
//! An endpoint goes out for a reason and a time. Then one call is the probe: if it is answered, the share of
//! the endpoint grows until it is whole again; if not, it stays out, for longer. Only calls that began after it
//! went out tell of its return.

use std::cmp::Ordering;
use std::time::Duration;

use crate::names::{Class, Moment};

use super::turn::Demand;

#[cfg(test)]
mod tests;

/// The first time out after failures; it doubles with each probe that fails.
const FIRST_OUT: Duration = Duration::from_secs(1);
/// The longest one. An endpoint that is well again serves in full ten seconds later at the latest.
const LONGEST_OUT: Duration = Duration::from_secs(5);
/// The same for a silent one, where each probe may cost a caller its patience.
const LONGEST_SILENT: Duration = Duration::from_secs(10);
/// How long a credential that was refused, a deployment that is not there and a closed address rest between two
/// probes: a person mends them. Other credentials bring the endpoint back at once.
const BY_HAND: Duration = Duration::from_secs(30);
/// Such refusals in a row: a single one may be of something that one request names.
const REFUSALS: u32 = 3;
/// After this time without an answer to it, another call may be the probe.
const PROBE: Duration = Duration::from_secs(10);
/// From the answered probe to the whole share. An endpoint that was throttled for less takes no longer than that:
/// it is well, and what it has no room for is steered by what it says.
const RAMP: Duration = Duration::from_secs(4);
/// The share of the first calls after the probe.
const FIRST_SHARE: f64 = 0.1;
/// This long after its return, an endpoint that goes out again begins with the first time.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Requests of fewer tokens are all of one size.
const SMALL: u64 = 1_000;
/// A request is much smaller than another by this factor.
const MUCH: u64 = 8;
/// The share of failures is that of half a window to a whole one.
const WINDOW: Duration = Duration::from_secs(10);
/// Fewer calls tell of no share.
const LEAST_OF_WINDOW: u64 = 20;

/// What an AIBackend declares of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Failures in a row after which an endpoint goes out.
    pub consecutive_failures: u32,
    /// The longest time out between two probes, also if the endpoint names a longer wait.
    pub max_ejection: Duration,
    /// Calls that wait this long without a byte to any of them make an endpoint silent.
    pub suspect_after: Duration,
}

/// Why an endpoint is out. One list for metrics, logs, pages and conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutReason {
    /// It asks callers to wait.
    Throttled,
    /// It fails: 5xx, 408, no connection, or one that breaks.
    Failing,
    /// Calls wait, and no byte comes.
    Silent,
    /// It refuses the gateway's credential.
    CredentialRefused,
    /// The deployment does not exist, or its model has retired.
    NotThere,
    /// It is at an address where the installation allows no backend.
    OutOfReach,
}

/// What a call came to, as far as it tells of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer began. It may still be cut.
    Begun,
    /// It was answered whole. A refusal of what the client sent is an answer too.
    Answered,
    /// It shall come again later, after this time if it said so.
    Throttled(Option<Duration>),
    /// It failed.
    Failed,
    /// The gateway's credential was refused.
    CredentialRefused,
    /// There is no such deployment, or no longer.
    NotThere,
    /// The address is closed to backends.
    OutOfReach,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When it began.
    pub began: Moment,
    /// When it ended.
    pub ended: Moment,
    /// What it asked for.
    pub demand: Demand,
}

/// What an endpoint may take now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Its share.
    In,
    /// This part of its share.
    Ramp(f64),
    /// One call, as a probe.
    Due(OutReason),
    /// Nothing for this time, unless there is no other endpoint and the reason leaves hope.
    Out(OutReason, Duration),
}

/// An endpoint has gone out or come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Out, for this time at first.
    Out(OutReason, Duration),
    /// Back after this time.
    Back(OutReason, Duration),
}

/// The memory of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Health {
    in_a_row: u32,
    /// Refusals in a row that a person must mend.
    refusals: u32,
    window: Window,
    out: Option<Out>,
    /// When it came back last.
    back_ms: Option<u64>,
    /// How long its share grows from then on.
    ramp: Duration,
    /// It is back, and nothing was answered whole since: the next failure is one too many.
    is_on_probation: bool,
    /// How often it went out without a minute of health between.
    times: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Out {
    reason: OutReason,
    since_ms: u64,
    /// Calls that began before this tell nothing of its return.
    renewed_ms: u64,
    until_ms: u64,
    /// A call is under way that tells of its return.
    is_probed: bool,
    /// The tokens of the smallest request that was throttled; 0 for every other reason. Much smaller ones are
    /// not kept away: a request that no deployment has room for says nothing of them.
    size: u64,
    /// The highest class that was throttled: all lower ones are kept away.
    class: Class,
}

/// Answers and failures of two halves.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began_ms: u64,
    now: Half,
    before: Half,
    /// Answers until the end of the last half.
    answered: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Half {
    failed: u64,
    answered: u64,
}

// === impl Outcome ===

impl Outcome {
    /// Whether a person must mend it: another credential, another address, or a deployment.
    #[must_use]
    pub const fn is_by_hand(self) -> bool {
        match self {
            Self::CredentialRefused | Self::NotThere | Self::OutOfReach => true,
            Self::Begun | Self::Answered | Self::Throttled(_) | Self::Failed => false,
        }
    }
}

// === impl HealthSettings ===

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            max_ejection: Duration::from_secs(60),
            suspect_after: Duration::from_secs(15),
        }
    }
}

// === impl OutReason ===

impl OutReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Throttled,
        Self::Failing,
        Self::Silent,
        Self::CredentialRefused,
        Self::NotThere,
        Self::OutOfReach,
    ];

    /// The word of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "Throttled",
            Self::Failing => "Failing",
            Self::Silent => "Silent",
            Self::CredentialRefused => "CredentialRefused",
            Self::NotThere => "NotThere",
            Self::OutOfReach => "OutOfReach",
        }
    }

    /// Whether a call may be answered all the same, so that it is tried where there is no other endpoint.
    #[must_use]
    pub const fn leaves_hope(self) -> bool {
        matches!(self, Self::Failing | Self::Silent)
    }

    /// How long an endpoint is out the nth time, from 0.
    fn lasts(self, times: u32, settings: &HealthSettings) -> Duration {
        let (first, longest) = match self {
            Self::Throttled | Self::Failing => (FIRST_OUT, LONGEST_OUT),
            Self::Silent => (FIRST_OUT, LONGEST_SILENT),
            Self::CredentialRefused | Self::NotThere | Self::OutOfReach => (BY_HAND, BY_HAND),
        };
        let doubled = first.saturating_mul(1 << times.min(8));
        doubled.min(longest).min(settings.max_ejection)
    }
}

// === impl Health ===

impl Health {
    /// What it may take at `now` of such requests.
    #[must_use]
    pub fn standing(&self, demand: Demand, now: Moment) -> Standing {
        let now = now.monotonic_ms;
        if let Some(out) = self.out.filter(|out| out.concerns(demand)) {
            return match out.until_ms.saturating_sub(now) {
                0 => Standing::Due(out.reason),
                // The answer to the probe is near.
                _ if out.is_probed => Standing::Out(out.reason, FIRST_OUT),
                left => Standing::Out(out.reason, Duration::from_millis(left)),
            };
        }
        let back = self.back_ms.map(|back| now.saturating_sub(back));
        match back.map(Duration::from_millis) {
            Some(past) if past < self.ramp => {
                let part = past.as_secs_f64() / self.ramp.as_secs_f64();
                Standing::Ramp(FIRST_SHARE + (1.0 - FIRST_SHARE) * part)
            }
            Some(_) | None => Standing::In,
        }
    }

    /// Whether it takes its whole share, and an answer at `now` changes nothing.
    #[must_use]
    pub fn is_well(&self, now: Moment) -> bool {
        let is_quiet = self.in_a_row == 0 && self.refusals == 0 && !self.is_on_probation;
        is_quiet && self.standing(Demand::LARGEST, now) == Standing::In
    }

    /// Lets the caller's call be the probe, if one is due.
    pub fn take_probe(&mut self, demand: Demand, now: Moment) -> bool {
        let is_due = matches!(self.standing(demand, now), Standing::Due(_));
        if is_due && let Some(out) = &mut self.out {
            out.until_ms = now.monotonic_ms.saturating_add(millis(PROBE));
            out.is_probed = true;
        }
        is_due
    }

    /// Takes note of a call. `answered` counts the answers of the endpoint since its start, this one
    /// included.
    pub fn record(
        &mut self,
        outcome: Outcome,
        call: Call,
        answered: u64,
        settings: &HealthSettings,
    ) -> Option<Change> {
        let now = call.ended;
        let reason = match outcome {
            Outcome::Begun => {
                self.refusals = 0;
                return self.answered(call);
            }
            Outcome::Answered => {
                (self.in_a_row, self.refusals) = (0, 0);
                let change = self.answered(call);
                self.is_on_probation &= self.out.is_some();
                return change;
            }
            Outcome::Throttled(Some(wait)) => {
                let wait = wait.min(settings.max_ejection);
                return self.leave(OutReason::Throttled, wait, call);
            }
            Outcome::Throttled(None) => OutReason::Throttled,
            Outcome::Failed => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.window.failed(now, answered);
                let in_a_row = self.in_a_row >= settings.consecutive_failures;
                let is_enough = in_a_row || self.is_on_probation || self.window.is_bad();
                if !self.is_out_for(call.demand) && !is_enough {
                    return None;
                }
                OutReason::Failing
            }
            Outcome::CredentialRefused | Outcome::NotThere => {
                self.refusals = self.refusals.saturating_add(1);
                if !self.is_out_for(call.demand) && self.refusals < REFUSALS {
                    return None;
                }
                if outcome == Outcome::NotThere {
                    OutReason::NotThere
                } else {
                    OutReason::CredentialRefused
                }
            }
            Outcome::OutOfReach => OutReason::OutOfReach,
        };
        let lasts = reason.lasts(self.times, settings);
        self.leave(reason, lasts, call)
    }

    /// Calls wait for it, and no byte has come for too long.
    pub fn silent(&mut self, now: Moment, settings: &HealthSettings) -> Option<Change> {
        let lasts = OutReason::Silent.lasts(self.times, settings);
        let call = Call {
            began: now,
            ended: now,
            demand: Demand {
                size: 0,
                class: Class::Batch,
            },
        };
        self.leave(OutReason::Silent, lasts, call)
    }

    /// It is called with another credential, or under another address: what was refused may be good now.
    pub fn renewed(&mut self, now: Moment) -> Option<Change> {
        let is_by_hand = |out: &mut Out| match out.reason {
            OutReason::CredentialRefused | OutReason::NotThere | OutReason::OutOfReach => true,
            OutReason::Throttled | OutReason::Failing | OutReason::Silent => false,
        };
        self.refusals = 0;
        let out = self.out.take_if(is_by_hand)?;
        (self.times, self.in_a_row) = (0, 0);
        Some(Change::Back(out.reason, out.lasted(now)))
    }

    /// Why it is out, and for how long already.
    #[must_use]
    pub fn out(&self, now: Moment) -> Option<(OutReason, Duration)> {
        self.out.map(|out| (out.reason, out.lasted(now)))
    }

    fn is_out_for(&self, demand: Demand) -> bool {
        self.out.is_some_and(|out| out.concerns(demand))
    }

    fn answered(&mut self, call: Call) -> Option<Change> {
        let now = call.ended;
        // A silent endpoint answers late by nature.
        let tells = |out: &mut Out| {
            let is_new = call.began.monotonic_ms >= out.renewed_ms;
            out.concerns(call.demand) && (is_new || out.reason == OutReason::Silent)
        };
        let out = self.out.take_if(tells)?;
        self.back_ms = Some(now.monotonic_ms);
        self.ramp = if out.reason == OutReason::Throttled {
            RAMP.min(out.lasted(now))
        } else {
            RAMP
        };
        self.is_on_probation = true;
        self.window = Window::default();
        Some(Change::Back(out.reason, out.lasted(now)))
    }

    fn leave(&mut self, reason: OutReason, lasts: Duration, call: Call) -> Option<Change> {
        let now = call.ended;
        let is_throttled = reason == OutReason::Throttled;
        let (size, class) = if is_throttled {
            (call.demand.size, call.demand.class)
        } else {
            (0, Class::Batch)
        };
        let until_ms = now.monotonic_ms.saturating_add(millis(lasts));
        if let Some(out) = &mut self.out {
            if call.began.monotonic_ms < out.renewed_ms {
                // It began before the endpoint went out. It may know of a longer wait, or of smaller requests.
                if is_throttled && out.reason == OutReason::Throttled {
                    out.until_ms = out.until_ms.max(until_ms);
                    out.size = out.size.min(size);
                    out.class = out.class.max(class);
                }
                return None;
            }
            // One failure of a huge request says no more of small ones than its 429 did.
            let is_of_huge = reason == OutReason::Failing && !out.keeps_away(0);
            let (reason, size) = if is_of_huge {
                (out.reason, out.size)
            } else {
                (reason, size)
            };
            out.size = out.size.min(size);
            out.class = out.class.max(class);
            self.times = self.times.saturating_add(1);
            let before = std::mem::replace(&mut out.reason, reason);
            out.renewed_ms = now.monotonic_ms;
            (out.until_ms, out.is_probed) = (until_ms, false);
            return (reason != before).then_some(Change::Out(reason, lasts));
        }
        let well = self
            .back_ms
            .map(|back| now.monotonic_ms.saturating_sub(back));
        self.times = match well {
            Some(well) if well < millis(FORGIVEN) => self.times.saturating_add(1),
            Some(_) | None => 0,
        };
        self.in_a_row = 0;
        self.out = Some(Out {
            reason,
            since_ms: now.monotonic_ms,
            renewed_ms: now.monotonic_ms,
            until_ms,
            is_probed: false,
            size,
            class,
        });
        Some(Change::Out(reason, lasts))
    }
}

// === impl Out ===

impl Out {
    /// Whether such requests are kept away.
    fn concerns(&self, demand: Demand) -> bool {
        match demand.class.cmp(&self.class) {
            Ordering::Less => true,
            // A lower class was refused. What is left may be for this one: it asks itself.
            Ordering::Greater if self.reason == OutReason::Throttled => false,
            Ordering::Equal | Ordering::Greater => self.keeps_away(demand.size),
        }
    }

    /// Whether requests of this many tokens are kept away, whatever their class.
    fn keeps_away(&self, size: u64) -> bool {
        size.max(SMALL).saturating_mul(MUCH) > self.size
    }

    const fn lasted(&self, now: Moment) -> Duration {
        Duration::from_millis(now.monotonic_ms.saturating_sub(self.since_ms))
    }
}

// === impl Window ===

impl Window {
    fn failed(&mut self, now: Moment, answered: u64) {
        let half = millis(WINDOW) / 2;
        let age = now.monotonic_ms.saturating_sub(self.began_ms);
        if age >= half {
            self.before = if age < 2 * half {
                self.now
            } else {
                Half::default()
            };
            if age >= 2 * half {
                // Answers of a time without a failure tell nothing of this one.
                self.answered = answered;
            } else {
                self.answered = self.answered.saturating_add(self.now.answered);
            }
            self.now = Half::default();
            self.began_ms = now.monotonic_ms;
        }
        self.now.failed += 1;
        self.now.answered = answered.saturating_sub(self.answered);
    }

    /// Whether half of the calls fail.
    const fn is_bad(&self) -> bool {
        let failed = self.now.failed + self.before.failed;
        let answered = self.now.answered + self.before.answered;
        failed + answered >= LEAST_OF_WINDOW && failed >= answered
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
