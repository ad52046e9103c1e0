//! How many counters the agent looks at, to know what all replicas use of them.
//!
//! The store could not bear a look at every counter each second, and callers without a Secret can make
//! any number of them. So only counters with recent requests are followed, and while there are too many
//! of these, only those with more recent ones.

#[cfg(test)]
mod tests;

/// Most looks in one round of the agent: 1,024 a second, which take the store about 40 ms.
const MOST: usize = 256;
/// Counters are followed for this long after their last request: longer than any rolling window, so that
/// an occasional caller of a calendar limit finds its counter known, too.
const LONGEST_MS: u64 = 600_000;
/// A busy counter has its own calls within this time.
const SHORTEST_MS: u64 = 2_000;

/// What is left of the looks of a round, and which counters they are for.
#[derive(Debug)]
pub(crate) struct Looks {
    left: usize,
    refused: bool,
    /// Counters that had a request within this time are followed.
    pub(crate) within_ms: u64,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            left: MOST,
            refused: false,
            within_ms: LONGEST_MS,
        }
    }
}

impl Looks {
    /// Takes one, if one is left.
    pub(crate) const fn take(&mut self) -> bool {
        let taken = self.left > 0;
        self.refused |= !taken;
        self.left = self.left.saturating_sub(1);
        taken
    }

    /// The looks of the next round: for fewer counters if these were too few, else for more again.
    pub(crate) fn renew(&mut self) {
        let within = if self.refused {
            self.within_ms / 2
        } else {
            self.within_ms.saturating_add(self.within_ms / 16)
        };
        *self = Self {
            left: MOST,
            refused: false,
            within_ms: within.clamp(SHORTEST_MS, LONGEST_MS),
        };
    }
}
