//! Overload of the gateway itself: who is refused while ready work waits for the processor.
//!
//! A core measures again and again how long a task that could run has waited for its turn. A wait that lasts, and
//! not its peak, says that more comes in than can be done (Nichols and Jacobson, "Controlling Queue Delay", 2012). From then
//! on a part of the requests is refused that grows with the wait, those of the least class first. A refusal is
//! cheaper than an answer, so the wait settles where both together are as much as can be done.
//! Nothing is learnt, so nothing must be unlearnt when the load falls.

use std::time::Duration;

use crate::names::Class;
use crate::table::Rule;

#[cfg(test)]
mod tests;

/// A wait up to this is the ripple of a busy core: an answer of a model takes a second or more.
pub const TARGET: Duration = Duration::from_millis(100);
/// At this wait everything is refused: a request waits for its turn a few times, and clients bear some seconds.
pub const MOST: Duration = Duration::from_millis(500);
/// How long a wait must last. A burst of this length passes, and a pause that the kernel makes to keep a limit of CPU.
pub const LASTS: Duration = Duration::from_millis(300);
/// How long a core stays alert behind an overload: if it returns it is dealt with at once.
pub const ALERT: Duration = Duration::from_secs(1);

/// All requests, as a number of parts: two and three classes divide it evenly.
pub const ALL: u32 = 6_000;

/// How much is refused: 0 is nothing, [`ALL`] everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u32);

/// What one core knows of its waits. Times count from any fixed moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// The first of the waits above the target, without one below it since.
    above_since: Option<Duration>,
    /// Until then the core reacts at once.
    alert_until: Option<Duration>,
}

/// The classes that the rules of a table have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes([bool; 3]);

/// Takes an even part of a sequence of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portion(u32);

// === impl Waits ===

impl Waits {
    /// Takes note of a wait that ended at `now`, and says how much is refused until the next one.
    pub fn note(&mut self, now: Duration, waited: Duration) -> Level {
        if waited < TARGET {
            self.above_since = None;
            return Level::default();
        }
        let since = *self.above_since.get_or_insert(now);
        let lasts = now.saturating_sub(since) >= LASTS;
        let is_alert = self.alert_until.is_some_and(|until| now < until);
        if !lasts && !is_alert {
            return Level::default();
        }
        self.alert_until = Some(now.saturating_add(ALERT));
        Level::of(waited)
    }

    /// Whether requests may be waiting whose clients have gone.
    #[must_use]
    pub fn is_strained(&self, now: Duration) -> bool {
        self.above_since.is_some() || self.alert_until.is_some_and(|until| now < until)
    }
}

// === impl Level ===

impl Level {
    /// Grows from the target on, to the most.
    fn of(waited: Duration) -> Self {
        let over = waited.saturating_sub(TARGET).as_micros();
        let range = MOST.saturating_sub(TARGET).as_micros();
        let parts = over.saturating_mul(ALL.into()) / range;
        Self(u32::try_from(parts).unwrap_or(ALL).min(ALL))
    }

    /// From its number.
    #[must_use]
    pub const fn new(parts: u32) -> Self {
        Self(parts)
    }

    /// As a number that grows with it.
    #[must_use]
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// Whether nothing is refused.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The level of a core beside one of `self`: what yields there to a higher class yields here too.
    #[must_use]
    pub fn beside(self, classes: Classes) -> Self {
        let count = classes.count();
        // A class is refused once the level is above its part of the whole.
        let whole = self.0.saturating_sub(1).saturating_mul(count) / ALL;
        Self(whole * (ALL / count))
    }

    /// How much of a class is refused, of [`ALL`].
    #[must_use]
    pub fn part_of(self, class: Class, classes: Classes) -> u32 {
        if self.is_none() {
            return 0;
        }
        let Some(place) = classes.place(class) else {
            // A caller has a class below that of its rule.
            return ALL;
        };
        let count = classes.count();
        let above = self.0.saturating_mul(count).saturating_sub(place * ALL);
        above.min(ALL)
    }
}

// === impl Classes ===

impl Classes {
    /// Those of these rules.
    pub fn of<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut classes = Self::default();
        for rule in rules {
            classes.add(rule.class);
        }
        classes
    }

    fn add(&mut self, added: Class) {
        for (class, is_there) in Class::ALL.into_iter().zip(&mut self.0) {
            *is_there = *is_there || class == added;
        }
    }

    /// The only one, if it is.
    #[must_use]
    pub fn only(self) -> Option<Class> {
        let mut all = self.all();
        all.next().filter(|_| all.next().is_none())
    }

    fn all(self) -> impl Iterator<Item = Class> {
        let all = Class::ALL.into_iter().zip(self.0);
        all.filter_map(|(class, is_there)| is_there.then_some(class))
    }

    /// At least one.
    fn count(self) -> u32 {
        self.0.into_iter().map(u32::from).sum::<u32>().max(1)
    }

    /// How many yield before it.
    fn place(self, wanted: Class) -> Option<u32> {
        let mut places = (0..).zip(self.all());
        places.find_map(|(place, class)| (class == wanted).then_some(place))
    }
}

// === impl Portion ===

impl Portion {
    /// Whether the next one is taken, if `part` of [`ALL`] are.
    pub fn takes(&mut self, part: u32) -> bool {
        self.0 = self.0.saturating_add(part.min(ALL));
        let takes = self.0 >= ALL;
        if takes {
            self.0 -= ALL;
        }
        takes
    }
}
