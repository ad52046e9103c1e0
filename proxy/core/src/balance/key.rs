//! The keys by which requests find the endpoint that they prefer.
//!
//! The same bytes have the same key in every process and version: replicas share no state, and agree by
//! that alone. A change of this file would move every conversation once.

/// 64 bits that stand for some texts in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u64);

/// Numbers with about as many ones as zeros: the fractions of pi and e.
const START: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0xb7e1_5162_8aed_2a6b;

// === impl Key ===

impl Key {
    /// The key of no text.
    #[must_use]
    pub const fn new() -> Self {
        Self(START)
    }

    /// The key of the texts so far and one more: its length, then words of eight bytes, little-endian and the
    /// last one filled with zeros. Each is joined by exclusive or, and the result times a constant folded: the
    /// upper half of the product on its lower half, as in wyhash. Not made against attackers: a caller
    /// that looks for collisions moves its own requests only. Cost: some eight instructions a word.
    #[must_use]
    pub fn with(self, text: &[u8]) -> Self {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let (words, rest) = text.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let whole = words.fold(self.joined(length), Self::joined);
        if rest.is_empty() {
            whole
        } else {
            whole.joined(u64::from_le_bytes(last))
        }
    }

    /// Evenly spread over all numbers, for each pair of keys another one.
    pub(super) fn meets(self, other: Self) -> u64 {
        Self(START).joined(self.0).joined(other.0).joined(FACTOR).0
    }

    fn joined(self, word: u64) -> Self {
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        let half = |half: u128| u64::try_from(half).unwrap_or(0);
        Self(half(product >> 64) ^ half(product & u128::from(u64::MAX)))
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}
