//! Overload of the gateway itself: which requests begin while there is more to do than can be done.
//!
//! All work of a core takes turns, and a *round* is one turn of everything that was ready when it began. Only a few
//! requests begin in a round; the others wait at a [`Gate`], those of the highest class in front. What has begun is
//! never behind what has not, so it is soon done, and what is left of the processor decides how many rounds there
//! are: the gate admits as much as can be done. A few may always wait. Of more, who would wait for too long is refused at
//! once, and who has, in spite of that, while its client still listens.

use std::collections::VecDeque;
use std::time::Duration;

use crate::names::Class;
use crate::table::Rule;

#[cfg(test)]
mod tests;

/// Requests that begin in one round. Few: what is ready behind them waits for them. Not one by one: a round has a
/// cost of its own.
pub const BEGIN: u32 = 16;
/// As long as no more than this wait, none is refused: they are soon done, and clients that call again at once are
/// rarely more.
pub const FREE: usize = 256;
/// More are a burst for this long, and then as long as they are fewer each time that it has passed.
pub const BURST: Duration = Duration::from_millis(250);
/// For this long behind a refusal the next burst is an overload at once.
pub const ALERT: Duration = Duration::from_secs(1);
/// How long a request waits at the most in an overload. An answer of a model takes a second or more.
pub const WAIT: Duration = Duration::from_millis(50);
/// From a round of this length on fewer begin: what has begun already, streams above all, is as much as can be done.
pub const LONG: Duration = Duration::from_millis(100);
/// And none behind a round of this length.
pub const LONGEST: Duration = Duration::from_millis(500);
/// The whole of a share.
pub const ALL: u32 = 1 << 16;
/// One that waited is this part of the share of the refused.
const FORGETS: u32 = 64;
/// With no more than this under way all begin: such a process is slow, not overloaded.
pub const FEW: usize = 8;

/// Where requests wait for their turn. Times count from any fixed moment.
#[derive(Debug)]
pub struct Gate<T> {
    /// May still begin in this round.
    left: u32,
    /// By class, as in [`Class::ALL`]; in each the oldest in front.
    waiting: [VecDeque<Waiting<T>>; 3],
    /// Of those that could not begin at once, how many were refused of late, in [`ALL`]s.
    refused: u32,
    /// When it was looked at whether those that wait become fewer.
    looked_at: Duration,
    /// How many more than are [`FREE`] waited then; `None` if no more did.
    waited: Option<usize>,
    /// They did not become fewer.
    grows: bool,
    /// Until then there are no bursts.
    alert_until: Duration,
    /// Since when requests begun are counted.
    counts_since: Duration,
    begun: usize,
    /// As many begin in the time that one may wait, as far as that is known.
    begins: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Duration,
    ticket: T,
}

/// What becomes of one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// It goes on.
    Begins(T),
    /// With the class that it has.
    Refused(T, Class),
}

/// The classes that the rules of a table have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes([bool; 3]);

// === impl Gate ===

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self {
            left: BEGIN,
            waiting: Default::default(),
            refused: 0,
            looked_at: Duration::ZERO,
            waited: None,
            grows: false,
            alert_until: Duration::ZERO,
            counts_since: Duration::ZERO,
            begun: 0,
            begins: usize::MAX,
        }
    }
}

impl<T> Gate<T> {
    /// Whether a request begins at once. If not, it waits.
    pub fn opens(&mut self) -> bool {
        let opens = self.left > 0 && self.is_empty();
        self.left -= u32::from(opens);
        opens
    }

    /// Whether a round must begin before another request may.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Lets a request wait, behind all of its class. Gives the ticket back if it would wait for too long: it is
    /// refused.
    pub fn wait(&mut self, class: Class, now: Duration, ticket: T) -> Result<(), T> {
        if self.is_empty() {
            (self.counts_since, self.begun, self.begins) = (now, 0, usize::MAX);
            (self.looked_at, self.waited, self.grows) = (now, None, false);
        }
        let all = Class::ALL.into_iter().zip(&mut self.waiting);
        let mut before = 0;
        for (_, waiting) in all.filter(|(one, _)| *one >= class) {
            before += waiting.len();
        }
        if before >= self.begins.max(FREE) && self.is_overload(now) {
            self.refuses(now);
            return Err(ticket);
        }
        for (one, waiting) in Class::ALL.into_iter().zip(&mut self.waiting) {
            if one == class {
                waiting.push_back(Waiting { since: now, ticket });
                break;
            }
        }
        Ok(())
    }

    /// A round begins, behind one that has `lasted` this long with this many requests `under_way`.
    pub fn round(&mut self, now: Duration, lasted: Duration, under_way: usize) {
        self.left = if under_way <= FEW || lasted <= LONG {
            BEGIN
        } else {
            let left = LONGEST.saturating_sub(lasted).as_micros();
            let all = LONGEST.saturating_sub(LONG).as_micros();
            let part = left.saturating_mul(BEGIN.into()).div_ceil(all);
            u32::try_from(part).unwrap_or(BEGIN)
        };
        if now.saturating_sub(self.counts_since) >= WAIT {
            self.begins = self.begun.max(FEW);
            (self.counts_since, self.begun) = (now, 0);
        }
        self.look(now);
    }

    /// Looks whether those that wait become fewer.
    fn look(&mut self, now: Duration) {
        let Some(beyond) = self.waits().checked_sub(FREE + 1) else {
            (self.looked_at, self.waited, self.grows) = (now, None, false);
            return;
        };
        if now.saturating_sub(self.looked_at) >= BURST {
            self.grows = self.waited.is_some_and(|before| beyond >= before);
            (self.looked_at, self.waited) = (now, Some(beyond));
        }
    }

    /// The next one of those that wait whose time has come. Call it until there is none, once a round.
    pub fn next(&mut self, now: Duration) -> Option<Next<T>> {
        let mut highest_first = self.waiting.iter_mut().rev();
        if self.left > 0
            && let Some(first) = highest_first.find_map(VecDeque::pop_front)
        {
            self.left -= 1;
            self.refused -= self.refused.div_ceil(FORGETS);
            self.begun += 1;
            return Some(Next::Begins(first.ticket));
        }
        if self.is_free() || !self.is_overload(now) {
            return None;
        }
        let is_late = |one: &mut Waiting<T>| now.saturating_sub(one.since) >= WAIT;
        let mut all = Class::ALL.into_iter().zip(&mut self.waiting);
        let (late, class) = all.find_map(|(class, waiting)| {
            let late = waiting.pop_front_if(is_late)?;
            Some((late, class))
        })?;
        self.refuses(now);
        Some(Next::Refused(late.ticket, class))
    }

    /// Whether it is more than a burst.
    fn is_overload(&self, now: Duration) -> bool {
        self.grows || now < self.alert_until
    }

    /// Whether so few wait that none is refused.
    fn is_free(&self) -> bool {
        self.waits() <= FREE
    }

    /// How many wait.
    fn waits(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Takes note of a refusal.
    fn refuses(&mut self, now: Duration) {
        self.refused += (ALL - self.refused).div_ceil(FORGETS);
        self.alert_until = now + ALERT;
    }

    /// How many of those that could not begin at once were refused of late, of [`ALL`].
    #[must_use]
    pub const fn refused(&self) -> u32 {
        self.refused
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
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
        let all = Class::ALL.into_iter().zip(self.0);
        let mut all = all.filter_map(|(class, is_there)| is_there.then_some(class));
        all.next().filter(|_| all.next().is_none())
    }
}
