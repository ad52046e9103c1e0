//! Balancing: the endpoint of a rule for the next try, from the first usable tier, by weight.

use rand::{Rng, RngExt};

#[cfg(test)]
mod tests;

/// One endpoint that a rule may use, and whether it may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Lower tiers first.
    pub priority: u8,
    /// Share within the tier; 0 takes no traffic.
    pub weight: u32,
    /// Excluded from this try: it was tried, or cannot serve the request.
    pub excluded: bool,
}

/// Chooses a candidate and returns its index: among those of the lowest priority that are not excluded
/// and have a weight above zero, in proportion to the weights. `None` without such a candidate.
///
/// Draws a number only if there is a choice. Cost: two passes, no allocation.
pub fn choose(candidates: &[Candidate], rng: &mut impl Rng) -> Option<usize> {
    let usable = |candidate: &&Candidate| !candidate.excluded && candidate.weight > 0;
    let tier = candidates
        .iter()
        .filter(usable)
        .map(|candidate| candidate.priority)
        .min()?;
    let mut members = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| usable(candidate) && candidate.priority == tier);
    let total: u64 = members
        .clone()
        .map(|(_, candidate)| u64::from(candidate.weight))
        .sum();
    if members.clone().nth(1).is_none() {
        return members.next().map(|(index, _)| index);
    }
    let mut ticket = rng.random_range(0..total);
    for (index, candidate) in members {
        match ticket.checked_sub(u64::from(candidate.weight)) {
            Some(rest) => ticket = rest,
            None => return Some(index),
        }
    }
    None
}
