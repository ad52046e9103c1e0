//! The output of an answer that told no usage: what it has shown, and what its model may have thought.
//!
//! Refuses to be cheap where it does not know: providers bill thoughts as output, and a client that hangs up
//! in time would have them for nothing. Time bounds them: a model writes one token after the other.

use std::time::Duration;

use super::Expected;

#[cfg(test)]
mod tests;

/// Tokens a second that no model writes of one answer. The fastest provider of `gpt-oss-120b` on GPUs was
/// measured at 683, Azure's GPT-5 at 155 (Artificial Analysis, "Output Speed", 2026).
const FASTEST: u64 = 1_000;
/// How much faster than all answers so far one may be: these were measured with the wait for their first token,
/// which is half of the time of a short one.
const MARGIN: u64 = 2;

/// What an answer tells of its model's thoughts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thoughts {
    /// Nothing: its API shows no sign of them.
    #[default]
    Unknown,
    /// There are none: its API would have shown that they begin.
    Absent,
    /// They have begun. How many there are, it does not tell.
    Begun,
}

/// An answer that told no usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreported {
    /// The tokens that it has shown, of all choices.
    pub shown: u64,
    /// What it tells of thoughts.
    pub thoughts: Thoughts,
    /// Whether its model thinks unasked; see [`super::is_reasoning`].
    pub reasons: bool,
    /// How many answers were asked for; 0 means 1.
    pub choices: u64,
    /// The most tokens of one answer: the client's bound, else the model's.
    pub bound: Option<u64>,
    /// How long the backend has worked at it.
    pub lasted: Duration,
}

impl Unreported {
    /// The tokens to charge. At least what was shown.
    ///
    /// Thoughts count as much as other answers have (`expected`). While that is not known, and they have
    /// begun or the model always thinks, they count as many as the bound and the time allow.
    #[must_use]
    pub fn output_tokens(self, expected: Expected) -> u64 {
        let choices = self.choices.max(1);
        let usual = expected.reasoning_tokens;
        let thought = match (self.thoughts, usual) {
            (Thoughts::Absent, _) => 0,
            // Answers of this model have not told how much they thought.
            (Thoughts::Begun, None | Some(0)) => u64::MAX,
            (Thoughts::Begun | Thoughts::Unknown, Some(usual)) => usual.saturating_mul(choices),
            (Thoughts::Unknown, None) if self.reasons => u64::MAX,
            (Thoughts::Unknown, None) => 0,
        };
        let bound = self.bound.unwrap_or(u64::MAX);
        let in_time = written(self.lasted, expected.tokens_per_second);
        let most = bound.min(in_time).saturating_mul(choices);
        self.shown.saturating_add(thought).min(most).max(self.shown)
    }
}

/// The most tokens that a model writes in this time, by the speed of its answers so far.
fn written(time: Duration, speed: Option<u64>) -> u64 {
    let speed = speed.map_or(FASTEST, |speed| speed.saturating_mul(MARGIN));
    let tokens = time.as_millis().saturating_mul(u128::from(speed));
    u64::try_from(tokens.div_ceil(1_000)).unwrap_or(u64::MAX)
}
