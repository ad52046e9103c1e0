//! `/explain`: the forecast of a request.

use proxy_core::admit::Denial;
use proxy_core::names::Usage;
use proxy_core::quota::{LimitName, Unit, Wait};
use proxy_core::table::Affinity;
use proxy_core::whatif::{self, Outcome, OutputFrom};
use serde::{Deserialize, Serialize};

use super::limit_name;

/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The consumer, by namespace and name if it has a Secret.
    pub consumer: String,
    /// The rule that serves it; `null` if none does, or if it does not admit the consumer.
    pub rule: Option<RuleName>,
    /// Tokens of the input, as asked.
    pub input_tokens: u64,
    /// Tokens reserved for the output.
    pub output_tokens: u64,
    /// Where they come from: `client`, `outputTokens.default` or `outputTokens.max` of the rule, or
    /// `expected` for what the gateway expects of a request without a bound.
    #[serde(default)]
    pub output_tokens_from: String,
    /// The cost that would be reserved, in micros; `null` if it is unknown, since a deployment that
    /// may serve the request has no price, or if no rule serves it.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    /// Every limit that applies, by name.
    pub limits: Vec<LimitForecast>,
    /// The rule's backends in the order in which they are tried, by tier.
    pub backends: Vec<Choice>,
    /// The class of the request: of the rule, or lowered by the caller's attribute; empty without a rule.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// By what requests prefer one of several: `Conversation`, `Header` and its name, or `None`; empty without a
    /// choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub affinity: String,
    /// The answer.
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
    #[serde(with = "limit_name")]
    pub limit: LimitName,
    /// What it counts.
    pub unit: String,
    /// The window.
    pub window: String,
    /// `Enforce`, or `Shadow`, which never refuses.
    pub mode: String,
    /// The counter that the request would charge; empty if the quota does not split its counters.
    pub subject: String,
    /// What the request asks for.
    pub asks: u64,
    /// Used, reservations included.
    pub used: u64,
    /// The part of it that running requests hold.
    pub reserved: u64,
    /// How much is allowed.
    pub amount: u64,
    /// What is left.
    pub remaining: u64,
    /// Whether the request fits now.
    pub fits: bool,
    /// If it does not: in how many seconds it would without other requests; `null` for never.
    pub fits_in_seconds: Option<u64>,
}

/// One backend of the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The tier; lower ones are tried first.
    pub priority: u8,
    /// `namespace/name`.
    pub backend: String,
    /// The deployment; a backend without one for the model is passed over.
    pub deployment: Option<String>,
    /// Its weight, as declared.
    pub weight: u32,
    /// Its share of the tier's requests in percent, rounded down.
    pub share_percent: u64,
    /// What the request costs there at most, in micros; `null` if the deployment has no price.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    /// Why the gateway has no token to show to it, if it needs one; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_token: Option<String>,
}

/// The answer to the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it would be sent to a backend.
    pub admitted: bool,
    /// The reason word, if not.
    pub code: Option<String>,
    /// The reason in a sentence.
    pub reason: String,
    /// The limit that refuses, if one does.
    #[serde(with = "limit_name::option", default)]
    pub limit: Option<LimitName>,
    /// When it would fit every limit without other requests; `null` if never, or if no limit refuses.
    pub fits_in_seconds: Option<u64>,
}

impl From<&whatif::Forecast<'_>> for Explanation {
    fn from(forecast: &whatif::Forecast<'_>) -> Self {
        let caller = &forecast.caller;
        let consumer = if caller.namespace.is_empty() {
            caller.name.to_string()
        } else {
            format!("{}/{}", caller.namespace, caller.name)
        };
        Self {
            consumer,
            rule: forecast.permit.map(|permit| RuleName {
                route: permit.route.name.to_string(),
                rule: permit.rule.name.to_string(),
            }),
            input_tokens: forecast.usage.input_tokens,
            output_tokens: forecast.usage.output_tokens,
            output_tokens_from: match forecast.output_from {
                OutputFrom::Client => "client",
                OutputFrom::RuleDefault => "outputTokens.default",
                OutputFrom::RuleMax => "outputTokens.max",
                OutputFrom::Expected => "expected",
            }
            .to_owned(),
            cost_micros: forecast.cost_micros,
            limits: forecast.limits.iter().map(Into::into).collect(),
            backends: forecast
                .targets
                .iter()
                .map(|share| Choice::of(share, forecast.usage))
                .collect(),
            class: forecast.permit.map_or_else(String::new, |permit| {
                permit.class(caller).as_str().to_owned()
            }),
            affinity: affinity(forecast),
            verdict: Verdict::of(forecast),
        }
    }
}

fn affinity(forecast: &whatif::Forecast<'_>) -> String {
    match forecast.permit.map(|permit| &permit.rule.affinity) {
        Some(_) if forecast.targets.len() < 2 => String::new(),
        Some(Affinity::Conversation) => "Conversation".to_owned(),
        Some(Affinity::Header(name)) => format!("Header {name}"),
        Some(Affinity::None) => "None".to_owned(),
        None => String::new(),
    }
}

impl From<&whatif::LimitForecast<'_>> for LimitForecast {
    fn from(forecast: &whatif::LimitForecast<'_>) -> Self {
        let (flat, level) = (forecast.limit, &forecast.level);
        Self {
            limit: flat.name.clone(),
            unit: flat.limit.unit.as_str().to_owned(),
            window: flat.limit.window.to_string(),
            mode: flat.quota.mode.as_str().to_owned(),
            subject: forecast.subject.clone(),
            asks: forecast.cost,
            used: level.used,
            reserved: level.reserved,
            amount: level.amount,
            remaining: level.remaining(),
            fits: level.fits.is_ok(),
            fits_in_seconds: seconds(level.fits),
        }
    }
}

impl Choice {
    fn of(share: &whatif::TargetShare<'_>, usage: Usage) -> Self {
        let target = share.target;
        let price = share.deployment.and_then(|one| one.price.as_deref());
        Self {
            priority: target.priority,
            backend: target.backend.name.to_string(),
            deployment: share.deployment.map(|one| one.name.to_string()),
            weight: target.weight,
            share_percent: share.percent,
            cost_micros: price.map(|price| price.hold_micros(usage)),
            // Known to a gateway alone.
            no_token: None,
        }
    }
}

impl Verdict {
    fn of(forecast: &whatif::Forecast<'_>) -> Self {
        match forecast.outcome() {
            Outcome::Admitted => Self {
                admitted: true,
                code: None,
                reason: "every limit has room, and a backend serves it".to_owned(),
                limit: None,
                fits_in_seconds: None,
            },
            Outcome::Denied(denial) => Self::denied(denial),
            Outcome::Exceeds(limit) => Self::exceeds(limit),
        }
    }

    fn denied(denial: &Denial) -> Self {
        Self {
            admitted: false,
            code: Some(denial.code.as_str().to_owned()),
            reason: denial.message.clone(),
            limit: None,
            fits_in_seconds: None,
        }
    }

    fn exceeds(forecast: &whatif::LimitForecast<'_>) -> Self {
        let (flat, level) = (forecast.limit, &forecast.level);
        let (name, unit, asks) = (&flat.name, flat.limit.unit, forecast.cost);
        let (used, amount, word) = (level.used, level.amount, unit.as_str());
        let wait = seconds(level.fits);
        let reason = match wait {
            None => {
                format!("limit {name} allows {amount} {word} in all, this request needs {asks}")
            }
            Some(_) if unit == Unit::Concurrency => {
                format!("limit {name}: {used} of {amount} run; it fits when one of them ends")
            }
            Some(wait) => format!(
                "limit {name} is spent: {used} of {amount} {word} used, this request needs {asks}; \
                 it fits in {wait} s"
            ),
        };
        Self {
            admitted: false,
            code: Some(flat.limit.code().as_str().to_owned()),
            reason,
            limit: Some(name.clone()),
            fits_in_seconds: wait,
        }
    }
}

fn seconds(fits: Result<(), Wait>) -> Option<u64> {
    match fits {
        Err(Wait::Millis(wait)) => Some(wait.div_ceil(1_000)),
        Ok(()) | Err(Wait::Never) => None,
    }
}
