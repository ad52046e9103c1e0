//! The estimated cost of a request, before it is sent.
//!
//! The observed sizes of earlier requests cost nothing and suit most. The tokens of the request itself
//! are counted where that decides: before anything was observed, and before a limit refuses it.

use std::sync::OnceLock;

use proxy_api::{Billing, Call, Prompt};
use proxy_core::admit::Permit;
use proxy_core::quota::{Cost, Hold, Unit};
use proxy_core::tokens::{self, Expected, Family, Shape};

use crate::live::LiveRule;
use crate::vocabulary;

/// Larger bodies are not tokenised before they are refused: the worst case (only blanks) takes 5 ms,
/// and a refused client can retry in a loop.
const RECOUNTED: usize = 32 << 10;

/// The facts that an estimate follows from.
pub(crate) struct Estimate<'a> {
    rule: &'a LiveRule,
    permit: &'a Permit<'a>,
    shape: Shape,
    expected: Expected,
    body: &'a [u8],
    prompt: Option<Prompt>,
    billing: Billing,
    /// The model that the client named.
    requested: &'a str,
    /// The deployment's model, of the first deployment that may serve it.
    model: &'a str,
    family: Family,
    /// The tokens of the request itself, once they were asked for: a request that waits asks again and
    /// again.
    counted: OnceLock<Option<u64>>,
    /// Its tokens per thousand bytes by its text, likewise.
    usual: OnceLock<u64>,
}

impl<'a> Estimate<'a> {
    /// Looks up the observed sizes. Counts no tokens yet.
    pub(crate) fn of(
        rule: &'a LiveRule,
        permit: &'a Permit<'a>,
        requested: &'a str,
        shape: Shape,
        body: &'a [u8],
        call: &Call,
        billing: Billing,
    ) -> Self {
        let place = rule.place(requested);
        let model = place.map_or(requested, |place| &place.declared.deployment.model);
        let longest = place.and_then(|place| place.longest);
        Self {
            rule,
            permit,
            shape,
            expected: Expected {
                max_output_tokens: if call.has_output { longest } else { Some(0) },
                max_input_tokens: place.and_then(|place| place.window),
                ..rule.sizes.expected(requested)
            },
            body,
            prompt: call.prompt,
            billing,
            requested,
            model,
            family: place.map_or_else(Family::default, |place| place.family),
            counted: OnceLock::new(),
            usual: OnceLock::new(),
        }
    }

    /// What to ask for.
    pub(crate) fn at_first(&self, default_output: u64) -> Hold {
        let known = self.expected.input_per_mille.is_some();
        let counted = (!known).then(|| self.count()).flatten();
        self.hold(self.expected, counted, default_output)
    }

    /// The same without a count.
    pub(crate) fn by_size(&self, default_output: u64) -> Hold {
        self.hold(self.expected, None, default_output)
    }

    /// The same by what is known of such requests now, and by a count of the request's own tokens if it was
    /// not counted at first.
    pub(crate) fn again(&self, default_output: u64) -> Hold {
        let was_counted = self.expected.input_per_mille.is_none();
        let counts = was_counted || self.body.len() <= RECOUNTED;
        let counted = counts.then(|| self.count()).flatten();
        let now = Expected {
            max_output_tokens: self.expected.max_output_tokens,
            max_input_tokens: self.expected.max_input_tokens,
            ..self.rule.sizes.expected(self.requested)
        };
        self.hold(now, counted, default_output)
    }

    fn count(&self) -> Option<u64> {
        *self.counted.get_or_init(|| {
            let (prompt, budget) = (self.prompt?, budget(self.rule)?);
            vocabulary::of_model(self.model)?;
            proxy_api::count(self.body, prompt, self.model, budget)
        })
    }

    /// By the text of the body, unless most of it may be something else.
    fn usual(&self) -> u64 {
        *self.usual.get_or_init(|| {
            let text = (self.shape.media_tokens == 0).then_some(self.body);
            self.family.per_mille(text)
        })
    }

    fn hold(&self, expected: Expected, counted: Option<u64>, default_output: u64) -> Hold {
        if self.billing != Billing::Metered {
            return Hold::exact(Cost::default());
        }
        let is_unknown = counted.is_none() && expected.input_per_mille.is_none();
        let expected = Expected {
            input_tokens: counted,
            usual_per_mille: is_unknown.then(|| self.usual()),
            ..expected
        };
        let usage = tokens::estimate(self.shape, expected, default_output);
        let cost = |usage| Cost {
            usage,
            cost_micros: if self.rule.counts_money {
                self.permit.flat.max_price.hold_micros(usage)
            } else {
                0
            },
        };
        Hold {
            cost: cost(usage),
            most: cost(tokens::most(self.shape, expected, usage)),
        }
    }
}

/// The count at which counting may stop, since no limit allows more; `None` if no limit needs a count.
fn budget(rule: &LiveRule) -> Option<u64> {
    let of_rule = rule.limits.iter();
    of_rule
        .filter_map(|live| match live.limit.unit {
            Unit::InputTokens | Unit::Tokens => Some(live.largest_amount()),
            Unit::CostMicros => Some(u64::MAX),
            Unit::OutputTokens | Unit::Requests | Unit::Concurrency => None,
        })
        .max()
}
