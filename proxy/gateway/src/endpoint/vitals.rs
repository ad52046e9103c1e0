//! What the calls to an endpoint tell of it, shared between the cores of the process.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proxy_core::balance::room::{self, Bucket, ROOMY, WHOLE};
use proxy_core::balance::{
    Call, Change, Demand, Health, HealthSettings, OutReason, Outcome, Standing, Turn,
};
use proxy_core::names::{Class, Moment};

#[cfg(test)]
mod tests;

/// Calls that wait at least, before silence tells something. A lone call may take half an hour.
const SUSPICIOUS: u32 = 3;
/// Silence is too long beyond this many times the slowest answer of late.
const SLOWEST: u64 = 4;
/// How much more may be free after each answer, in thousandths.
const STEP: u32 = 5;
/// What an endpoint says of its room counts for this long, in milliseconds.
const ROOM_LASTS: u64 = 10_000;
/// Requests of a higher class that came within this time, in milliseconds, are still about.
const ABOUT: u64 = 10_000;
/// Answers that the average of late is made of, about.
const LATE: u64 = 16;
/// The slowest answer is forgotten by this share with each answer.
const FORGETS: u64 = 64;

/// The memory of an endpoint, and the silence since its last byte.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    health: Mutex<Health>,
    /// Whether the health is anything else than whole.
    ails: AtomicBool,
    /// Calls that began since the last byte of any answer.
    unheard: AtomicU32,
    /// When the first of them began, in monotonic milliseconds.
    unheard_since: AtomicU64,
    /// The slowest first byte of late, in milliseconds.
    slowest: AtomicU64,
    /// The average of late, in microseconds; 0 before the first.
    usual: AtomicU64,
    /// The thousandths of it that are free, and one; 0 as long as it does not tell of less than is needed.
    room: AtomicU32,
    /// The thousandths of it that are used, and one, as it told last; 0 before the first time.
    told: AtomicU32,
    /// When it told that, in monotonic milliseconds.
    room_told: AtomicU64,
    /// The use of it, where its capacity is declared.
    bucket: Mutex<Bucket>,
    /// When requests came that some class gives way to, in monotonic milliseconds.
    standard: AtomicU64,
    interactive: AtomicU64,
}

/// What can be seen of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sign {
    pub(super) standing: Standing,
    /// Why it is out, and for how long already.
    pub(super) out: Option<(OutReason, Duration)>,
    /// The time to the first byte of late.
    pub(super) first_byte: Option<Duration>,
    /// The thousandths of it that are used.
    pub(super) used: Option<u32>,
}

// === impl Vitals ===

impl Vitals {
    /// Whether the next try is for it. `rate`: the tokens that it takes in a minute, where that is declared. Costs a
    /// few loads as long as all is well.
    pub(super) fn turn(
        &self,
        demand: Demand,
        now: Moment,
        settings: &HealthSettings,
        rate: Option<u64>,
        changed: impl FnOnce(Change),
    ) -> Turn {
        self.sees(demand.class, now);
        let is_silent = self.is_silent(now, settings);
        let gives_way = self.gives_way(demand.class, now);
        // A lower class must leave room behind its own call.
        let own = rate.filter(|_| gives_way);
        let own = own.map_or(0, |rate| room::part_of(demand.size, rate));
        let free = self.free(rate, now).saturating_sub(own);
        if !is_silent && free >= ROOMY && !self.ails.load(Ordering::Relaxed) {
            return Turn::Usual;
        }
        if is_silent {
            self.falls_silent(now, settings).map(changed);
        }
        let standing = self.health.lock().standing(demand, now);
        room::turn(standing, demand.class, gives_way, free, &mut rand::rng())
    }

    /// Takes note of a silence that has lasted too long, also where no other call asks for it.
    pub(super) fn looks(&self, now: Moment, settings: &HealthSettings) -> Option<Change> {
        self.is_silent(now, settings)
            .then(|| self.falls_silent(now, settings))?
    }

    fn falls_silent(&self, now: Moment, settings: &HealthSettings) -> Option<Change> {
        let mut health = self.health.lock();
        if health.out(now).is_some() {
            return None;
        }
        self.ails.store(true, Ordering::Relaxed);
        health.silent(now, settings)
    }

    /// The thousandths of it that are free.
    fn free(&self, rate: Option<u64>, now: Moment) -> u32 {
        if let Some(rate) = rate {
            return self.bucket.lock().free(rate, now);
        }
        match self.room.load(Ordering::Relaxed) {
            0 => WHOLE,
            room => {
                if self.is_told(now) {
                    room - 1
                } else {
                    WHOLE
                }
            }
        }
    }

    /// The thousandths of it that are used, as far as that is known.
    fn used(&self, rate: Option<u64>, now: Moment) -> Option<u32> {
        if let Some(rate) = rate {
            return Some(WHOLE.saturating_sub(self.bucket.lock().free(rate, now)));
        }
        let told = self.told.load(Ordering::Relaxed).checked_sub(1);
        told.filter(|_| self.is_told(now))
    }

    /// Whether what it said about its room still counts.
    fn is_told(&self, now: Moment) -> bool {
        let told = self.room_told.load(Ordering::Relaxed);
        now.monotonic_ms.saturating_sub(told) < ROOM_LASTS
    }

    /// It tells how many thousandths of it are free. Without a declared capacity less counts at once, and more step by
    /// step.
    pub(super) fn tells_room(&self, told: i32, now: Moment, rate: Option<u64>) {
        if let Some(rate) = rate {
            let used = i64::from(WHOLE).saturating_sub(told.into()).max(0);
            let used = u32::try_from(used).unwrap_or(u32::MAX);
            return self.bucket.lock().told(used, rate, now);
        }
        let told = u32::try_from(told).unwrap_or(0);
        self.told
            .store(WHOLE.saturating_sub(told) + 1, Ordering::Relaxed);
        self.room_told.store(now.monotonic_ms, Ordering::Relaxed);
        let before = match self.room.load(Ordering::Relaxed) {
            0 if told >= ROOMY => return,
            0 => WHOLE,
            room => room - 1,
        };
        let free = told.min(before.saturating_add(STEP));
        // Enough is as if nothing had been told.
        let room = if free >= ROOMY { 0 } else { free + 1 };
        self.room.store(room, Ordering::Relaxed);
    }

    /// A call takes `tokens` of it, where `before` were reckoned for it.
    pub(super) fn takes(&self, before: u64, tokens: u64, rate: u64, now: Moment) {
        self.bucket.lock().corrects(before, tokens, rate, now);
    }

    /// A request of this class wants it.
    fn sees(&self, class: Class, now: Moment) {
        let seen = match class {
            Class::Batch => return,
            Class::Standard => &self.standard,
            Class::Interactive => &self.interactive,
        };
        // The clock begins at 0, which stands for never. It may be the same millisecond for many cores.
        let now = now.monotonic_ms.max(1);
        if seen.load(Ordering::Relaxed) != now {
            seen.store(now, Ordering::Relaxed);
        }
    }

    /// Whether requests of a higher class are about.
    fn gives_way(&self, class: Class, now: Moment) -> bool {
        let is_about = |seen: &AtomicU64| {
            let seen = seen.load(Ordering::Relaxed);
            seen > 0 && now.monotonic_ms.saturating_sub(seen) < ABOUT
        };
        match class {
            Class::Interactive => false,
            Class::Standard => is_about(&self.interactive),
            Class::Batch => is_about(&self.interactive) || is_about(&self.standard),
        }
    }

    /// Whether it takes a try that is its turn. If it is out and a probe is due, this try is the probe.
    pub(super) fn admits(&self, demand: Demand, now: Moment) -> bool {
        if !self.ails.load(Ordering::Relaxed) {
            return true;
        }
        let mut health = self.health.lock();
        match health.standing(demand, now) {
            Standing::In | Standing::Ramp(_) => true,
            Standing::Due(_) => health.take_probe(demand, now),
            Standing::Out(..) => false,
        }
    }

    /// A call begins.
    pub(super) fn called(&self, now: Moment, settings: &HealthSettings) {
        let before = self.unheard.fetch_add(1, Ordering::Relaxed);
        // A call that was given up an hour ago tells nothing of those that wait now.
        let is_stale = || {
            let since = self.unheard_since.load(Ordering::Relaxed);
            let silence = now.monotonic_ms.saturating_sub(since);
            before < SUSPICIOUS && silence > 2 * self.patience(settings)
        };
        if before == 0 || is_stale() {
            self.unheard.store(1, Ordering::Relaxed);
            self.unheard_since
                .store(now.monotonic_ms, Ordering::Relaxed);
        }
    }

    /// A byte of an answer has come.
    pub(super) fn heard(&self) {
        if self.unheard.load(Ordering::Relaxed) != 0 {
            self.unheard.store(0, Ordering::Relaxed);
        }
    }

    /// The head of an answer has come, after this time.
    pub(super) fn answered_after(&self, waited: Duration) {
        self.heard();
        let micros = waited.as_secs().saturating_mul(1_000_000);
        let micros = micros.saturating_add(waited.subsec_micros().into());
        let usual = self.usual.load(Ordering::Relaxed);
        let usual = match usual {
            0 => micros,
            usual => usual - usual / LATE + micros / LATE,
        };
        self.usual.store(usual.max(1), Ordering::Relaxed);
        let slowest = self.slowest.load(Ordering::Relaxed);
        let faded = slowest - slowest.div_ceil(FORGETS);
        let now = faded.max(micros / 1_000);
        if now != slowest {
            self.slowest.store(now, Ordering::Relaxed);
        }
    }

    /// The time to the first byte of late, in microseconds; 0 before the first.
    pub(super) fn first_byte_us(&self) -> u64 {
        self.usual.load(Ordering::Relaxed)
    }

    /// Whether something was wrong with it of late.
    pub(super) fn ails(&self) -> bool {
        self.ails.load(Ordering::Relaxed)
    }

    /// Whether an outcome changes anything.
    pub(super) fn listens_to(&self, outcome: Outcome) -> bool {
        let is_good = matches!(outcome, Outcome::Begun | Outcome::Answered);
        !is_good || self.ails.load(Ordering::Relaxed)
    }

    /// Takes note of what a call came to.
    pub(super) fn record(
        &self,
        outcome: Outcome,
        call: Call,
        answered: u64,
        settings: &HealthSettings,
    ) -> Option<Change> {
        let mut health = self.health.lock();
        let change = health.record(outcome, call, answered, settings);
        self.ails
            .store(!health.is_well(call.ended), Ordering::Relaxed);
        change
    }

    /// Its credential or its address is another one.
    pub(super) fn renewed(&self, now: Moment) -> Option<Change> {
        self.health.lock().renewed(now)
    }

    /// Why it is out for such a request, and for how long until a call may try it.
    pub(super) fn out(&self, demand: Demand, now: Moment) -> Option<(OutReason, Duration)> {
        if !self.ails.load(Ordering::Relaxed) {
            return None;
        }
        match self.health.lock().standing(demand, now) {
            Standing::Due(reason) => Some((reason, Duration::ZERO)),
            Standing::Out(reason, left) => Some((reason, left)),
            Standing::In | Standing::Ramp(_) => None,
        }
    }

    /// Whether it is back, and its share still grows.
    pub(super) fn is_returning(&self, demand: Demand, now: Moment) -> bool {
        let standing = self.health.lock().standing(demand, now);
        matches!(standing, Standing::Ramp(_))
    }

    /// What can be seen of it.
    pub(super) fn sign(&self, rate: Option<u64>, now: Moment) -> Sign {
        let health = self.health.lock();
        let usual = self.first_byte_us();
        Sign {
            standing: health.standing(Demand::LARGEST, now),
            out: health.out(now),
            first_byte: (usual > 0).then(|| Duration::from_micros(usual)),
            used: self.used(rate, now),
        }
    }

    fn is_silent(&self, now: Moment, settings: &HealthSettings) -> bool {
        if self.unheard.load(Ordering::Relaxed) < SUSPICIOUS {
            return false;
        }
        let since = self.unheard_since.load(Ordering::Relaxed);
        now.monotonic_ms.saturating_sub(since) > self.patience(settings)
    }

    /// The longest silence of an endpoint that works, in milliseconds.
    fn patience(&self, settings: &HealthSettings) -> u64 {
        let declared = u64::try_from(settings.suspect_after.as_millis()).unwrap_or(u64::MAX);
        let slowest = self.slowest.load(Ordering::Relaxed);
        declared.max(slowest.saturating_mul(SLOWEST))
    }
}
