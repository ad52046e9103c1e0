//! Balancing: the endpoint of a rule for the next try, from the first usable tier, by weight and load.

use rand::{Rng, RngExt};

mod budget;
mod health;
mod key;
mod rendezvous;
pub mod room;
#[cfg(test)]
mod tests;
mod turn;

pub use budget::RetryBudget;
pub use health::{Call, Change, Health, HealthSettings, OutReason, Outcome, Standing};
pub use key::Key;
use rendezvous::Member;
pub use turn::{Demand, Turn};

/// One endpoint that a rule may use, and whether it may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Lower tiers first.
    pub priority: u8,
    /// Share within the tier; 0 takes no traffic.
    pub weight: u32,
    /// Whether it takes this try.
    pub turn: Turn,
    /// Calls that it has under way.
    pub load: u32,
    /// The time to the first byte of late, in microseconds; 0 if it is not known.
    pub first_byte_us: u64,
}

/// Chooses a candidate and returns its index: of the lowest tier that has some with a weight above zero, in
/// proportion to the weights; as a last resort of all tiers, since any of them may be well again. Of two that
/// are drawn so, the one whose calls wait for much less. `None` without such a candidate.
///
/// Draws a number only if there is a choice. Cost: a few passes, no allocation.
pub fn choose(candidates: &[Candidate], rng: &mut impl Rng) -> Option<usize> {
    if let [only] = candidates {
        return (only.turn.is_chosen() && only.weight > 0).then_some(0);
    }
    [Turn::Usual, Turn::Spare, Turn::Last]
        .into_iter()
        .find_map(|turn| Tier::first(candidates, turn)?.choose(rng))
}

/// The candidate that requests of this key prefer: of the lowest tier where some take their usual share, by
/// rendezvous hashing over their identities. One that has far more under way than its part is passed over. `None`
/// if there is none, and [`choose`] decides.
///
/// Cost: two passes, and a logarithm for each candidate.
pub fn prefer(
    candidates: &[Candidate],
    key: Key,
    identity: impl Fn(usize) -> Key,
) -> Option<usize> {
    let tier = Tier::first(candidates, Turn::Usual)?;
    let members = tier.members().map(|(index, one)| {
        let member = Member {
            identity: identity(index),
            weight: one.weight,
            load: one.load,
        };
        (index, member)
    });
    rendezvous::first(key, members)
}

/// The candidates of one tier that may be chosen.
struct Tier<'a> {
    candidates: &'a [Candidate],
    turn: Turn,
    /// `None` = all.
    priority: Option<u8>,
}

impl<'a> Tier<'a> {
    fn first(candidates: &'a [Candidate], turn: Turn) -> Option<Self> {
        let usable = candidates
            .iter()
            .filter(|one| one.turn == turn && one.weight > 0);
        let lowest = usable.map(|candidate| candidate.priority).min()?;
        Some(Self {
            candidates,
            turn,
            priority: (turn != Turn::Last).then_some(lowest),
        })
    }

    fn members(&self) -> impl Iterator<Item = (usize, &'a Candidate)> + Clone + use<'a> {
        let (turn, priority) = (self.turn, self.priority);
        let all = self.candidates.iter().enumerate();
        all.filter(move |(_, one)| {
            let is_of_tier = priority.is_none_or(|priority| one.priority == priority);
            one.turn == turn && one.weight > 0 && is_of_tier
        })
    }

    fn choose(&self, rng: &mut impl Rng) -> Option<usize> {
        let mut members = self.members();
        let (only, _) = members.next()?;
        if members.next().is_none() {
            return Some(only);
        }
        let first = self.draw(rng)?;
        let second = self.draw(rng)?;
        let is_freer = self.candidates.get(first).zip(self.candidates.get(second));
        let is_freer = is_freer.is_some_and(|(first, second)| second.is_much_freer_than(first));
        Some(if is_freer { second } else { first })
    }

    /// One of the members, by weight.
    fn draw(&self, rng: &mut impl Rng) -> Option<usize> {
        let weights = self.members().map(|(_, one)| u64::from(one.weight));
        let mut ticket = rng.random_range(0..weights.sum());
        for (index, candidate) in self.members() {
            match ticket.checked_sub(u64::from(candidate.weight)) {
                Some(rest) => ticket = rest,
                None => return Some(index),
            }
        }
        None
    }
}

impl Candidate {
    /// Whether its calls wait for less than half as long as the other's, by its calls under way for its weight and
    /// its time to the first byte. Small differences are chance, and would bend the weights.
    fn is_much_freer_than(&self, other: &Self) -> bool {
        const SLACK: u64 = 2;
        let slack = SLACK.saturating_mul(self.weight.max(other.weight).into());
        let busy = |load: u32, weight: u32| {
            let load = u64::from(load).saturating_mul(weight.into());
            load.saturating_add(slack)
        };
        let (own, others) = match (self.first_byte_us, other.first_byte_us) {
            (0, _) | (_, 0) => (1, 1),
            known => known,
        };
        let own = busy(self.load, other.weight).saturating_mul(own);
        let others = busy(other.load, self.weight).saturating_mul(others);
        others > own.saturating_mul(2)
    }
}
