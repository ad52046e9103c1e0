//! Weighted rendezvous hashing: each key ranks the members of a tier, and takes the first. A member that goes
//! moves only its own keys, one that comes takes keys only for itself, and shares are those of the weights.
//!
//! Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (2005). The bound is that of
//! Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2016).

use super::key::Key;

#[cfg(test)]
mod tests;

/// Calls beyond its part that a member has at any time: no deployment notices them, and below them chance would
/// drive conversations away from their caches.
const SLACK: u64 = 8;

/// A member of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// What it is known by, in every process.
    pub(super) identity: Key,
    /// Above zero.
    pub(super) weight: u32,
    /// Calls that it has under way.
    pub(super) load: u32,
}

/// The first of the members by rank that does not have far more under way than its part. The order in which they
/// come is of no matter. `None` without members.
pub(super) fn first<T>(key: Key, members: impl Iterator<Item = (T, Member)> + Clone) -> Option<T> {
    let whole = members.clone().fold((0, 0), |(load, weight), (_, one)| {
        (
            u64::saturating_add(load, one.load.into()),
            u64::saturating_add(weight, one.weight.into()),
        )
    });
    let free = members.filter(|(_, one)| !one.is_crowded(whole));
    let ranked = free.map(|(what, one)| (what, one.rank(key), one.identity));
    let first = ranked.max_by(|(_, rank, identity), (_, other_rank, other)| {
        rank.total_cmp(other_rank).then(identity.cmp(other))
    });
    first.map(|(what, ..)| what)
}

// === impl Member ===

impl Member {
    /// The higher the better: `-weight / ln(u)` with `u` between 0 and 1 by the key and the member. So each is
    /// first for a share of the keys that is its share of the weights.
    fn rank(&self, key: Key) -> f64 {
        -f64::from(self.weight) / unit(key.meets(self.identity)).ln()
    }

    /// Whether it has more than one and a half of its part of all calls, and some. Twice would bind no tier of two,
    /// where one that has everything has no more than that.
    fn is_crowded(&self, (load, weight): (u64, u64)) -> bool {
        let own = u64::from(self.load).saturating_sub(SLACK);
        let own = own.saturating_mul(weight).saturating_mul(2);
        own > load.saturating_mul(self.weight.into()).saturating_mul(3)
    }
}

/// The upper 52 bits as a number between 0 and 1, exclusive: as many as a float holds exactly, with the half.
fn unit(hash: u64) -> f64 {
    const HALF: f64 = 4_294_967_296.0;
    const ALL: f64 = 4_503_599_627_370_496.0;
    let bits = hash >> 12;
    let half = |half: u64| u32::try_from(half).map_or(0.0, f64::from);
    let (high, low) = (half(bits >> 32), half(bits & u64::from(u32::MAX)));
    (high.mul_add(HALF, low) + 0.5) / ALL
}
