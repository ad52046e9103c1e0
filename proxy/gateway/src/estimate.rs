//! The estimated cost of a request, before it is sent.
//!
//! The observed sizes of earlier requests cost nothing and suit most. The tokens of the request itself
//! are counted where that decides: before anything was observed, and before a limit refuses it.

use std::sync::atomic::{AtomicU8, Ordering};

use proxy_api::Prompt;
use proxy_core::admit::Permit;
use proxy_core::quota::{Cost, Unit};
use proxy_core::tokens::{self, Encoding, Expected, Shape, max_output_tokens};

use crate::live::LiveRule;

/// Larger bodies are not tokenised before they are refused: the worst case (only blanks) takes 5 ms,
/// and a refused client can retry in a loop.
const RECOUNTED: usize = 32 << 10;

/// The facts that an estimate follows from.
#[derive(Clone, Copy)]
pub(crate) struct Estimate<'a> {
    rule: &'a LiveRule,
    permit: &'a Permit<'a>,
    shape: Shape,
    expected: Expected,
    body: &'a [u8],
    prompt: Option<Prompt>,
    /// The deployment's model, of the first deployment that may serve it.
    model: &'a str,
}

impl<'a> Estimate<'a> {
    /// Looks up the observed sizes. Counts no tokens yet.
    pub(crate) fn of(
        rule: &'a LiveRule,
        permit: &'a Permit<'a>,
        requested: &'a str,
        shape: Shape,
        body: &'a [u8],
        prompt: Option<Prompt>,
    ) -> Self {
        let model = permit.deployed_model(requested);
        Self {
            rule,
            permit,
            shape,
            expected: Expected {
                max_output_tokens: max_output_tokens(model),
                ..rule.sizes.expected(requested)
            },
            body,
            prompt,
            model,
        }
    }

    /// The cost to ask for.
    pub(crate) fn at_first(&self, default_output: u64) -> Cost {
        let known = self.expected.input_per_mille.is_some();
        let counted = (!known).then(|| self.count()).flatten();
        self.cost(counted, default_output)
    }

    /// The cost by a count of the request's own tokens; `None` if it was counted at first, or cannot be.
    pub(crate) fn counted(&self, default_output: u64) -> Option<Cost> {
        self.expected.input_per_mille?;
        (self.body.len() <= RECOUNTED).then_some(())?;
        let counted = self.count()?;
        Some(self.cost(Some(counted), default_output))
    }

    fn count(&self) -> Option<u64> {
        let (prompt, budget) = (self.prompt?, budget(self.rule)?);
        let encoding = Encoding::of_model(self.model)?;
        is_loaded(encoding).then_some(())?;
        proxy_api::count(self.body, prompt, self.model, budget)
    }

    fn cost(&self, counted: Option<u64>, default_output: u64) -> Cost {
        let expected = Expected {
            input_tokens: counted,
            ..self.expected
        };
        let usage = tokens::estimate(self.shape, expected, default_output);
        Cost {
            usage,
            cost_micros: self.permit.flat.max_price.cost_micros(usage),
        }
    }
}

/// The count at which counting may stop, since no limit allows more; `None` if no limit needs a count.
fn budget(rule: &LiveRule) -> Option<u64> {
    let of_rule = rule.limits.iter();
    of_rule
        .filter_map(|live| match live.limit.unit {
            Unit::InputTokens | Unit::Tokens => Some(live.limit.amount),
            Unit::CostMicros => Some(u64::MAX),
            Unit::OutputTokens | Unit::Requests | Unit::Concurrency => None,
        })
        .max()
}

/// Whether a vocabulary is loaded. The first call loads it on a thread of its own, in about 0.1 s: no
/// request waits for that, and a gateway that counts nothing loads nothing.
fn is_loaded(encoding: Encoding) -> bool {
    const UNASKED: u8 = 0;
    const LOADING: u8 = 1;
    const LOADED: u8 = 2;
    static CL100K: AtomicU8 = AtomicU8::new(UNASKED);
    static O200K: AtomicU8 = AtomicU8::new(UNASKED);
    let state = match encoding {
        Encoding::Cl100k => &CL100K,
        Encoding::O200k => &O200K,
    };
    if state.load(Ordering::Acquire) == LOADED {
        return true;
    }
    let first = state.compare_exchange(UNASKED, LOADING, Ordering::AcqRel, Ordering::Relaxed);
    if first.is_ok() {
        let load = move || {
            encoding.load();
            state.store(LOADED, Ordering::Release);
        };
        // Without a thread nothing is counted.
        drop(
            std::thread::Builder::new()
                .name("vocabulary".to_owned())
                .spawn(load),
        );
    }
    false
}
