//! The answer, as it is written on the admin port and read by `tundish explain`.

use proxy_core::admit::Denial;
use proxy_core::quota::Unit;
use proxy_core::table::FlatLimit;
use serde::{Deserialize, Serialize};


/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The consumer, by namespace and name where a Secret names it.
    pub consumer: String,
    /// The rule that serves it; none if there is none, or if it does not admit the consumer.
    pub rule: Option<RuleName>,
    /// Tokens of the input, as asked.
    pub input_tokens: u64,
    /// Tokens held for the output: as asked, else what the gateway has learned, or its default.
    pub output_tokens: u64,
    /// Every limit that applies, by name.
    pub limits: Vec<LimitForecast>,
    /// The rule's backends in the order in which they are tried, by tier.
    pub backends: Vec<Choice>,
    /// What would be answered.
    pub verdict: Verdict,
}

/// A rule of an AIRoute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleName {
    /// `namespace/name`.
    pub route: String,
    /// Its name within the route.
    pub rule: String,
}

/// One limit that applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitForecast {
    /// `namespace/quota/limit`.
    pub limit: String,
    /// What it counts.
    pub unit: String,
    /// The window.
    pub window: String,
    /// `Enforce` or `Shadow`, which never refuses.
    pub mode: String,
    /// Whose counter the request would charge; empty if the quota does not split.
    pub subject: String,
    /// What the request asks for.
    pub asks: u64,
    /// Used, what is reserved included.
    pub used: u64,
    /// The part of it that running requests hold.
    pub reserved: u64,
    /// How much is allowed.
    pub amount: u64,
    /// What is left.
    pub remaining: u64,
    /// Whether the request fits now.
    pub fits: bool,
    /// If it does not: in how many seconds, if nobody else asks; none if it never does.
    pub fits_in_seconds: Option<u64>,
}

/// One backend of the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The tier; lower ones are tried first.
    pub priority: u8,
    /// `namespace/name`.
    pub backend: String,
    /// The deployment; none if it has none for the model, and is passed over.
    pub deployment: Option<String>,
    /// Its weight, as declared.
    pub weight: u32,
    /// Its share of the tier's requests in percent, rounded down.
    pub share_percent: u64,
}

/// What would be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it would be sent to a backend.
    pub admitted: bool,
    /// The reason word, if not.
    pub code: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
    /// The limit that refuses, if one does.
    pub limit: Option<String>,
    /// When it would fit every limit, if nobody else asks; none if never, or if no limit refuses.
    pub fits_in_seconds: Option<u64>,
}

impl Choice {
    /// Whether a request may be sent there.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.deployment.is_some() && self.weight > 0
    }
}

impl Verdict {
    pub(super) fn admitted() -> Self {
        Self {
            admitted: true,
            code: None,
            reason: "every limit has room, and a backend serves it".to_owned(),
            limit: None,
            fits_in_seconds: None,
        }
    }

    pub(super) fn denied(denial: Denial) -> Self {
        Self {
            admitted: false,
            code: Some(denial.code.as_str().to_owned()),
            reason: denial.message,
            limit: None,
            fits_in_seconds: None,
        }
    }

    pub(super) fn over(flat: &FlatLimit, limit: &LimitForecast) -> Self {
        let LimitForecast {
            limit: name,
            unit,
            asks,
            used,
            amount,
            ..
        } = limit;
        let reason = match limit.fits_in_seconds {
            None => {
                format!("limit {name} allows {amount} {unit} in all, this request needs {asks}")
            }
            Some(_) if flat.limit.unit == Unit::Concurrency => {
                format!("limit {name}: {used} of {amount} run; it fits when one of them ends")
            }
            Some(wait) => format!(
                "limit {name} is spent: {used} of {amount} {unit} used, this request needs {asks}; \
                 it fits in {wait} s"
            ),
        };
        Self {
            admitted: false,
            code: Some(flat.limit.code().as_str().to_owned()),
            reason,
            limit: Some(name.clone()),
            fits_in_seconds: limit.fits_in_seconds,
        }
    }
}
