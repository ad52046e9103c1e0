//! Prices as they travel.
//!
//! The first release knows three rates. A proxy that knows no others must not charge less than the
//! deployment costs, so those three are the dearest of everything that may apply, and `price` has
//! the exact ones where they differ. So a proxy that is older than its operator charges more than
//! it should until its upgrade, and no entry needs a feature that would take a backend away from it.
//! Without any rate the price is unknown: the first release counts 0, and the operator closes limits
//! on cost that reach such a deployment.

use std::sync::Arc;

use proxy_core::tokens;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Price {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_per_million: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cached_input_per_million: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_per_million: Option<u64>,
    #[serde(rename = "price", default, skip_serializing_if = "Option::is_none")]
    exact: Option<Exact>,
}

/// What the three rates of the first release cannot say.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exact {
    #[serde(flatten)]
    rates: Rates,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long_context: Option<LongContext>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routed: Vec<Routed>,
}

/// Every rate is written, so that none has a default to agree on.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    input: u64,
    cached_input: u64,
    cache_write: u64,
    audio_input: u64,
    image_input: u64,
    output: u64,
    audio_output: u64,
    image_output: u64,
    second: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LongContext {
    above_input_tokens: u64,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Serialize, Deserialize)]
struct Routed {
    model: Arc<str>,
    #[serde(flatten)]
    rates: Rates,
}

// === impl Price ===

impl Price {
    pub(super) fn of(price: Option<&tokens::Price>) -> Self {
        let Some(price) = price else {
            return Self::default();
        };
        let dearest = price.dearest();
        let input = dearest
            .input
            .max(dearest.cache_write)
            .max(dearest.audio_input)
            .max(dearest.image_input);
        let output = dearest
            .output
            .max(dearest.audio_output)
            .max(dearest.image_output);
        let plain = Self {
            input_per_million: Some(input),
            cached_input_per_million: Some(dearest.cached_input),
            output_per_million: Some(output),
            exact: None,
        };
        let is_exact = plain.first_release().as_ref() == Some(price);
        Self {
            exact: (!is_exact).then(|| Exact::of(price)),
            ..plain
        }
    }

    pub(super) fn into_core(self) -> Option<tokens::Price> {
        let plain = self.first_release();
        self.exact.map(Exact::into_core).or(plain)
    }

    /// The price as the first release means it; `None` = unknown. It wrote all three or left some
    /// out, which meant 0.
    fn first_release(&self) -> Option<tokens::Price> {
        let three = [
            self.input_per_million,
            self.cached_input_per_million,
            self.output_per_million,
        ];
        if three == [None; 3] {
            return None;
        }
        let [input, cached_input, output] = three.map(Option::unwrap_or_default);
        Some(tokens::Price {
            rates: tokens::Rates {
                cached_input,
                ..tokens::Rates::of_text(input, output)
            },
            ..tokens::Price::default()
        })
    }
}

// === impl Exact ===

impl Exact {
    fn of(price: &tokens::Price) -> Self {
        let routed = price.routed.iter().map(|(model, rates)| Routed {
            model: Arc::clone(model),
            rates: Rates::of(*rates),
        });
        Self {
            rates: Rates::of(price.rates),
            long_context: price.long_context.map(|long| LongContext {
                above_input_tokens: long.above_input_tokens,
                rates: Rates::of(long.rates),
            }),
            routed: routed.collect(),
        }
    }

    fn into_core(self) -> tokens::Price {
        let routed = self.routed.into_iter();
        tokens::Price {
            rates: self.rates.into_core(),
            long_context: self.long_context.map(|long| tokens::LongContext {
                above_input_tokens: long.above_input_tokens,
                rates: long.rates.into_core(),
            }),
            routed: routed
                .map(|routed| (routed.model, routed.rates.into_core()))
                .collect(),
        }
    }
}

// === impl Rates ===

impl Rates {
    const fn of(rates: tokens::Rates) -> Self {
        let tokens::Rates {
            input,
            cached_input,
            cache_write,
            audio_input,
            image_input,
            output,
            audio_output,
            image_output,
            second,
        } = rates;
        Self {
            input,
            cached_input,
            cache_write,
            audio_input,
            image_input,
            output,
            audio_output,
            image_output,
            second,
        }
    }

    const fn into_core(self) -> tokens::Rates {
        let Self {
            input,
            cached_input,
            cache_write,
            audio_input,
            image_input,
            output,
            audio_output,
            image_output,
            second,
        } = self;
        tokens::Rates {
            input,
            cached_input,
            cache_write,
            audio_input,
            image_input,
            output,
            audio_output,
            image_output,
            second,
        }
    }
}
