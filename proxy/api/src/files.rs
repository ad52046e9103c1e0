//! The files of a form: what they may come to, as long as no answer has said it.
//!
//! Nothing in a file is read: its size is what no client can understate.

use crate::body::Files;
use crate::prompt::Media;

#[cfg(test)]
mod tests;

/// What the files of an operation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Sound that is written down.
    Sound,
    /// Images that are edited.
    Images,
    /// What a backend keeps. Nothing reads it now.
    Kept,
}

/// The most images that are edited at once (`OpenAI`, "Create image edit"), for a form that is not read to its end.
pub(crate) const MOST_IMAGES: u64 = 16;
/// The slowest rate of what is sent: MPEG layer III at 32 kbit/s.
const BYTES_PER_MS: u64 = 4;
/// Ten tokens a second (`OpenAI`, "Managing costs", Realtime) at that rate.
const BYTES_PER_TOKEN: u64 = 400;
/// The most tokens of an image that is read with high fidelity: one that is not square (`OpenAI`, "Image
/// generation", cost), and what is around it.
const IMAGE_TOKENS: u64 = 6_240 + 300;

impl FileKind {
    /// The most tokens that a model reads of them.
    #[must_use]
    pub const fn media(self, files: Files) -> Media {
        let tokens = match self {
            Self::Sound => files.bytes.div_ceil(BYTES_PER_TOKEN),
            Self::Images => files.count.saturating_mul(IMAGE_TOKENS),
            Self::Kept => 0,
        };
        Media {
            bytes: files.bytes,
            tokens,
        }
    }

    /// The longest sound that they may be, in milliseconds.
    #[must_use]
    pub const fn sound_ms(self, files: Files) -> u64 {
        match self {
            Self::Sound => files.bytes.div_ceil(BYTES_PER_MS),
            Self::Images | Self::Kept => 0,
        }
    }
}
