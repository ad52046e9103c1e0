//! Prices of tokens.

use std::sync::Arc;

use crate::names::Usage;

/// Micros of the installation's currency per million tokens of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Input text that was not cached.
    pub input: u64,
    /// Cached input.
    pub cached_input: u64,
    /// Input that the provider writes to its cache.
    pub cache_write: u64,
    /// Sound in the input.
    pub audio_input: u64,
    /// Images in the input.
    pub image_input: u64,
    /// Output text, reasoning included.
    pub output: u64,
    /// Sound in the output.
    pub audio_output: u64,
    /// Images in the output.
    pub image_output: u64,
    /// Micros per second of sound that is billed by its length.
    pub second: u64,
}

/// Rates of requests with a long input; they hold for the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongContext {
    /// The longest input that is billed at the usual rates.
    pub above_input_tokens: u64,
    /// The rates beyond it.
    pub rates: Rates,
}

/// What a deployment costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// The usual rates.
    pub rates: Rates,
    /// Those of long inputs.
    pub long_context: Option<LongContext>,
    /// The rates of a model router, by the model that answered; other models cost the usual rates.
    pub routed: Arc<[(Arc<str>, Rates)]>,
}

// === impl Rates ===

impl Rates {
    /// Text alone: every class costs as much as the text around it.
    #[must_use]
    pub const fn of_text(input: u64, output: u64) -> Self {
        Self {
            input,
            cached_input: input,
            cache_write: input,
            audio_input: input,
            image_input: input,
            output,
            audio_output: output,
            image_output: output,
            second: 0,
        }
    }

    /// Micros for `usage`, rounded up so that nothing is free. What is billed by its length is not billed by its
    /// tokens, too: the dearer counts.
    fn micros(self, usage: Usage) -> u64 {
        let input = [
            (usage.cached_input_tokens, self.cached_input),
            (usage.cache_write_tokens, self.cache_write),
            (usage.audio_input_tokens, self.audio_input),
            (usage.image_input_tokens, self.image_input),
        ];
        let output = [
            (usage.audio_output_tokens, self.audio_output),
            (usage.image_output_tokens, self.image_output),
        ];
        let sound = product(usage.sound_ms, self.second).saturating_mul(1_000);
        let input = of_parts(usage.input_tokens, input, self.input).max(sound);
        let output = of_parts(usage.output_tokens, output, self.output);
        let sum = input.saturating_add(output);
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// The dearer of two, rate by rate.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached_input: self.cached_input.max(other.cached_input),
            cache_write: self.cache_write.max(other.cache_write),
            audio_input: self.audio_input.max(other.audio_input),
            image_input: self.image_input.max(other.image_input),
            output: self.output.max(other.output),
            audio_output: self.audio_output.max(other.audio_output),
            image_output: self.image_output.max(other.image_output),
            second: self.second.max(other.second),
        }
    }
}

/// Millionths of micros for a whole, of which some parts have rates of their own.
fn of_parts<const N: usize>(whole: u64, parts: [(u64, u64); N], rate: u64) -> u128 {
    let mut left = whole;
    let parts = parts.into_iter().map(|(part, rate)| {
        let part = part.min(left);
        left -= part;
        product(part, rate)
    });
    let parts = parts.fold(0, u128::saturating_add);
    parts.saturating_add(product(left, rate))
}

fn product(count: u64, rate: u64) -> u128 {
    u128::from(count).saturating_mul(u128::from(rate))
}

// === impl Price ===

impl Price {
    /// Micros for what a request has used; `model` is the one that its answer names.
    #[must_use]
    pub fn cost_micros(&self, usage: Usage, model: Option<&str>) -> u64 {
        let routed = model.and_then(|model| self.routed(model));
        let rates = match (routed, self.long_context) {
            (Some(rates), _) => rates,
            (None, Some(long)) if usage.input_tokens > long.above_input_tokens => long.rates,
            (None, _) => self.rates,
        };
        rates.micros(usage)
    }

    /// The rates of the model that a router chose. Answers name a model with the date of its
    /// version, as `gpt-5-mini-2025-08-07`, which the declared name may leave out.
    fn routed(&self, model: &str) -> Option<Rates> {
        let named = |(name, _): &&(Arc<str>, Rates)| **name == *model;
        let dated =
            |(name, _): &&(Arc<str>, Rates)| model.strip_prefix(&**name).is_some_and(is_version);
        let mut all = self.routed.iter();
        let exact = all.find(named);
        exact
            .or_else(|| self.routed.iter().find(dated))
            .map(|(_, rates)| *rates)
    }

    /// The dearest rates that any request may have.
    #[must_use]
    pub fn dearest(&self) -> Rates {
        let routed = self.routed.iter().map(|(_, rates)| *rates);
        let long = self.long_context.map(|long| long.rates);
        routed.chain(long).fold(self.rates, Rates::max)
    }

    /// Micros to hold for an estimate: at the dearest rates that may apply, and nothing cached. No
    /// request with these totals costs more, whatever their classes, as long as it has no more
    /// sound and images than estimated: text may turn out as written to the cache, but not as sound.
    #[must_use]
    pub fn hold_micros(&self, estimate: Usage) -> u64 {
        let usual = self.routed.iter().map(|(_, rates)| *rates);
        let mut rates = usual.fold(self.rates, Rates::max);
        if let Some(long) = self.long_context
            && estimate.input_tokens > long.above_input_tokens
        {
            rates = rates.max(long.rates);
        }
        // Tokens that were estimated as one class and turn out as another must not cost more.
        rates.input = rates.input.max(rates.cache_write).max(rates.cached_input);
        rates.audio_input = rates.audio_input.max(rates.input);
        rates.image_input = rates.image_input.max(rates.input);
        rates.audio_output = rates.audio_output.max(rates.output);
        rates.image_output = rates.image_output.max(rates.output);
        let uncached = Usage {
            cached_input_tokens: 0,
            cache_write_tokens: 0,
            ..estimate
        };
        rates.micros(uncached)
    }

    /// The dearer of two, rate by rate: the price of a request before its backend is known.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let long_context = match (self.long_context, other.long_context) {
            (Some(one), Some(other)) => Some(LongContext {
                above_input_tokens: one.above_input_tokens.min(other.above_input_tokens),
                rates: one.rates.max(other.rates),
            }),
            (one, other) => one.or(other),
        };
        let routed = self.routed.iter().chain(other.routed.iter());
        let rates = routed.fold(self.rates.max(other.rates), |rates, (_, one)| {
            rates.max(*one)
        });
        Self {
            rates,
            long_context,
            routed: Arc::default(),
        }
    }
}

/// `-2025-08-07`, `-20250807`, `-0613`: a date or number of four digits or more at the end of a model.
fn is_version(suffix: &str) -> bool {
    let digits = suffix.strip_prefix('-').unwrap_or_default();
    let year = digits.bytes().take_while(u8::is_ascii_digit).count();
    year >= 4 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}
