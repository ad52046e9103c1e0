//! The estimate of a request's tokens, before it is sent.

use super::texture::USUAL;
use crate::names::Usage;

/// Tokens that a chat adds around its messages: three per message and three for the reply (`OpenAI`'s
/// cookbook). One message is assumed; the JSON around the others makes up for theirs.
const CHAT_OVERHEAD: u64 = 6;
/// What messages add where tools are offered, which says how to call them (Anthropic, "Pricing", "Tool use
/// pricing"): Claude 4 without a tool that must be called. The least that was seen of later ones, too.
const TOOLS_OVERHEAD: u64 = 346;

/// The least that an answer without a bound may come to: the answers of most chats are shorter, and
/// many models end there unless they are asked for more.
const LONG_OUTPUT: u64 = 4_096;

/// The parts of a request that determine its cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the request's body, without the data of images, sound and files.
    pub body_bytes: u64,
    /// The most tokens that those come to.
    pub media_tokens: u64,
    /// Tokens that its API adds to the text; see [`overhead`].
    pub overhead: u64,
    /// The client's bound on output tokens, if it gave one.
    pub max_output_tokens: Option<u64>,
    /// How many answers it asks for (`n`); 0 means 1.
    pub choices: u64,
    /// How many texts the model reads, each within its window; 0 means 1.
    pub texts: u64,
    /// The model reads what its backend keeps, too: its length tells nothing of that.
    pub continues: bool,
    /// The longest sound that it may have, where that may be billed by its length.
    pub sound_ms: u64,
}

impl Shape {
    /// The most that the model reads of it, if its window is known.
    fn window(self, expected: Expected) -> u64 {
        let window = expected.max_input_tokens.unwrap_or(u64::MAX);
        window.saturating_mul(self.texts.max(1))
    }
}

/// The tokens that an API adds to the text of a prompt: around messages, and for the tools of Anthropic's.
#[must_use]
pub const fn overhead(has_anthropic_tools: bool) -> u64 {
    if has_anthropic_tools {
        CHAT_OVERHEAD + TOOLS_OVERHEAD
    } else {
        CHAT_OVERHEAD
    }
}

/// What is known of a request beyond its shape: from earlier requests of its kind
/// ([`super::ObservedSizes`]), from a count of its text ([`super::Encoding`]), and from its model
/// ([`super::max_output_tokens`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Output tokens of one answer if the client sets no bound.
    pub output_tokens: Option<u64>,
    /// Input tokens per thousand bytes of body, besides what its API adds.
    pub input_per_mille: Option<u64>,
    /// The same by its text, while no answer has told it; see [`super::Family`].
    pub usual_per_mille: Option<u64>,
    /// Input tokens counted in the request itself; they replace any ratio.
    pub input_tokens: Option<u64>,
    /// Output tokens of one answer that its provider bills as reasoning, and does not show.
    pub reasoning_tokens: Option<u64>,
    /// How fast one answer was written, of the fastest recent ones.
    pub tokens_per_second: Option<u64>,
    /// The longest recent answer to a request without a bound, as a bound that is forgotten slowly.
    pub longest_output: Option<u64>,
    /// The most that its model answers at once; a hold is not above it.
    pub max_output_tokens: Option<u64>,
    /// The most that its model reads at once; a hold is not above it.
    pub max_input_tokens: Option<u64>,
}

/// The tokens to hold for a request of this shape. Never 0 of either kind.
///
/// `default_output` is held if the client sets no bound and nothing is known yet. What the model
/// cannot answer is not held, even if the client allows it.
#[must_use]
pub fn estimate(shape: Shape, expected: Expected, default_output: u64) -> Usage {
    let input = expected.input_tokens.unwrap_or_else(|| {
        let ratio = expected.input_per_mille.or(expected.usual_per_mille);
        let ratio = ratio.unwrap_or(USUAL);
        let tokens = u128::from(shape.body_bytes).saturating_mul(u128::from(ratio));
        let text = u64::try_from(tokens.div_ceil(1_000)).unwrap_or(u64::MAX);
        let besides = shape.overhead.saturating_add(shape.media_tokens);
        text.saturating_add(besides)
    });
    let input = input.min(shape.window(expected));
    let per_choice = shape
        .max_output_tokens
        .or(expected.output_tokens)
        .unwrap_or(default_output)
        .min(expected.max_output_tokens.unwrap_or(u64::MAX));
    Usage {
        input_tokens: input.max(1),
        output_tokens: per_choice.max(1).saturating_mul(shape.choices.max(1)),
        sound_ms: shape.sound_ms,
        ..Usage::default()
    }
}

/// The most tokens that the request may plausibly use, of which `held` by [`estimate`] is a guess or a
/// bound. At least `held` of either kind.
///
/// A count of the input and the client's bound on the output are taken as true. Otherwise an input has
/// at most a token for each byte of its body and what its API adds, or what its model reads if it continues
/// something, and an answer is at most the longest of the recent ones,
/// but not taken for shorter than 4,096 tokens, nor for longer than the model can answer.
#[must_use]
pub fn most(shape: Shape, expected: Expected, held: Usage) -> Usage {
    let input = match expected.input_tokens {
        Some(_counted) => held.input_tokens,
        None => {
            let besides = shape.overhead.saturating_add(shape.media_tokens);
            let most = if shape.continues {
                u64::MAX
            } else {
                shape.body_bytes.saturating_add(besides)
            };
            let most = most.min(shape.window(expected));
            most.max(held.input_tokens)
        }
    };
    let output = if shape.max_output_tokens.is_some() {
        held.output_tokens
    } else {
        let longest = expected.longest_output.unwrap_or(0).max(LONG_OUTPUT);
        let per_choice = longest.min(expected.max_output_tokens.unwrap_or(u64::MAX));
        let all = per_choice.saturating_mul(shape.choices.max(1));
        all.max(held.output_tokens)
    };
    Usage {
        input_tokens: input,
        output_tokens: output,
        ..held
    }
}
