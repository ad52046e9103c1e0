//! The forecast of one request: its rule, its limits, its backends, and the outcome.
//!
//! A forecast takes no quota, so another request may come first. Whether a request fits is derived
//! from what remains; only reserving decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;

use super::consumer::{Candidate, InvalidConsumer, admit_any, candidates};
use crate::admit::{Ask, Denial, Permit};
use crate::auth::Caller;
use crate::names::{Attributes, Code, Moment, Operation, Usage};
use crate::quota::{Cost, Mode, Wait};
use crate::table::{Deployment, FlatLimit, FlatTarget, OutputTokens, QuotaFacts, Table};

/// A request that was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The host, lower case, without a port.
    pub host: String,
    /// The operation.
    pub operation: Operation,
    /// The model that the client would name.
    pub model: String,
    /// `name` or `namespace/name` of a consumer, the latter of one with a token; or the fingerprint `key-xxxxxxxx` of a credential
    /// without a Secret; `None` for a caller without a credential.
    pub consumer: Option<String>,
    /// Attributes that its token gives it, sorted. One with a key has those of its Secret.
    pub attributes: Attributes,
    /// Tokens of the input.
    pub input_tokens: u64,
    /// The bound on output tokens; `None` when the client would set none.
    pub max_tokens: Option<u64>,
}

/// The counter that a request would charge.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Its limit.
    pub limit: &'a FlatLimit,
    /// What decides which counter of the limit it is.
    pub facts: QuotaFacts<'a>,
}

/// The state of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterLevel {
    /// What the limit allows.
    pub amount: u64,
    /// Used, reservations included.
    pub used: u64,
    /// The part of it that running requests hold.
    pub reserved: u64,
    /// Whether the request fits, and if not, when it would if no other request came.
    pub fits: Result<(), Wait>,
}

/// What a forecast asks of the gateway.
pub trait Counters {
    /// Whether the gateway serves an operation at all.
    fn serves(&self, operation: Operation) -> bool;

    /// The counter of `probe`, asked for `cost` of the limit's unit.
    fn level(&self, probe: &Probe<'_>, cost: u64) -> CounterLevel;

    /// Output tokens held for a request of the rule that has no bound, neither by its client nor by
    /// the rule's `outputTokens`.
    fn output_tokens(&self, permit: &Permit<'_>, model: &str) -> u64;
}

/// Counters of a gateway that no request has used yet.
#[derive(Clone, Copy, Debug)]
pub struct Unused<'a> {
    /// What the gateway serves.
    pub served: &'a [Operation],
    /// Output tokens held for a request that sets no bound.
    pub default_output_tokens: u64,
}

/// What would become of a request.
#[derive(Clone, Debug)]
pub struct Forecast<'t> {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The rule; `None` when no rule serves the request, or when it does not admit the caller.
    pub permit: Option<Permit<'t>>,
    /// Tokens that would be reserved; output only if a rule serves the request or the client bounds
    /// it.
    pub usage: Usage,
    /// Where the output tokens come from.
    pub output_from: OutputFrom,
    /// The cost that would be reserved, in micros; `None` if no rule serves the request, or if it is
    /// unknown: a deployment that may serve it has no price.
    pub cost_micros: Option<u64>,
    /// Every limit that applies, in the order of the table.
    pub limits: Vec<LimitForecast<'t>>,
    /// The rule's targets in the order in which they are tried.
    pub targets: Vec<TargetShare<'t>>,
    /// Why it would be refused if it fits every limit.
    pub denial: Option<Denial>,
}

/// What decides how many output tokens are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFrom {
    /// The client's bound.
    Client,
    /// The rule's `outputTokens.default`: the client sets no bound.
    RuleDefault,
    /// The rule's `outputTokens.max`: the client's bound is larger, or there is none at all.
    RuleMax,
    /// What the gateway expects of a request without a bound.
    Expected,
}

/// One limit that applies.
#[derive(Clone, Debug)]
pub struct LimitForecast<'t> {
    /// The limit.
    pub limit: &'t FlatLimit,
    /// The name of its counter, as [`FlatLimit::subject_text`].
    pub subject: String,
    /// What the request asks of it.
    pub cost: u64,
    /// The counter before the request.
    pub level: CounterLevel,
}

/// One target of the rule.
#[derive(Clone, Copy, Debug)]
pub struct TargetShare<'t> {
    /// The target.
    pub target: &'t FlatTarget,
    /// The deployment for the model; a target without one is passed over.
    pub deployment: Option<&'t Deployment>,
    /// Its share of the tier's requests in percent, rounded down.
    pub percent: u64,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It would be sent to a backend.
    Admitted,
    /// It would be refused before any limit is asked, or for want of a backend.
    Denied(&'a Denial),
    /// This limit would refuse it.
    Exceeds(&'a LimitForecast<'a>),
}

// === impl Unused ===

impl Counters for Unused<'_> {
    fn serves(&self, operation: Operation) -> bool {
        self.served.contains(&operation)
    }

    fn level(&self, probe: &Probe<'_>, cost: u64) -> CounterLevel {
        CounterLevel::unused(probe.limit.amount_for(probe.facts.caller), cost)
    }

    fn output_tokens(&self, _permit: &Permit<'_>, _model: &str) -> u64 {
        self.default_output_tokens
    }
}

impl CounterLevel {
    /// A counter of a limit of `amount` that was never charged, asked for `cost`.
    #[must_use]
    pub fn unused(amount: u64, cost: u64) -> Self {
        Self {
            amount,
            used: 0,
            reserved: 0,
            fits: if cost <= amount && amount > 0 {
                Ok(())
            } else {
                Err(Wait::Never)
            },
        }
    }

    /// What is left.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.amount.saturating_sub(self.used)
    }
}

impl OutputFrom {
    fn of(bounds: OutputTokens, asked: Option<u64>) -> Self {
        match (asked, bounds.default, bounds.max) {
            (Some(asked), _, Some(max)) if asked > max => Self::RuleMax,
            (Some(_), ..) => Self::Client,
            (None, Some(_), _) => Self::RuleDefault,
            (None, None, Some(_)) => Self::RuleMax,
            (None, None, None) => Self::Expected,
        }
    }
}

impl TargetShare<'_> {
    /// Whether a request may be sent there.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.deployment.is_some() && self.target.weight > 0
    }
}

/// Forecasts the request of `question` at `now`.
///
/// # Errors
/// The consumer is unknown or ambiguous.
pub fn forecast<'t>(
    table: &'t Table,
    question: &Question,
    counters: &impl Counters,
    now: Moment,
) -> Result<Forecast<'t>, InvalidConsumer> {
    let candidates = match &question.consumer {
        Some(name) => candidates(table, name, &question.attributes)?,
        None => vec![Candidate::anonymous()],
    };
    let headers = HeaderMap::new();
    let ask = Ask {
        host: &question.host,
        operation: question.operation,
        model: Some(&question.model),
        headers: &headers,
    };
    let judged = admit_any(table, candidates, &ask, now);
    let (caller, permit) = judged.unwrap_or_else(|| {
        let denial = Denial::new(Code::InvalidCredential, "no consumer is named");
        (Arc::new(Caller::anonymous()), Err(denial))
    });
    let mut forecast = Forecast {
        caller,
        permit: None,
        usage: Usage {
            input_tokens: question.input_tokens,
            output_tokens: question.max_tokens.unwrap_or(0),
            ..Usage::default()
        },
        output_from: OutputFrom::Client,
        cost_micros: None,
        limits: Vec::new(),
        targets: Vec::new(),
        denial: None,
    };
    match permit {
        _ if !counters.serves(question.operation) => {
            let operation = question.operation.as_str();
            let message = format!("{operation} is not served by this version of the gateway");
            forecast.denial = Some(Denial::new(Code::OperationNotServed, message));
        }
        Ok(permit) => forecast.fill(permit, question, counters),
        Err(denial) => forecast.denial = Some(denial),
    }
    Ok(forecast)
}

// === impl Forecast ===

impl<'t> Forecast<'t> {
    /// The answer. Quota is taken before a backend is chosen, so a limit refuses first; of several
    /// the one with the longest wait answers, as in [`crate::quota::reserve`].
    #[must_use]
    pub fn outcome(&self) -> Outcome<'_> {
        let mut longest: Option<(Wait, &LimitForecast<'_>)> = None;
        for limit in &self.limits {
            if let Err(wait) = limit.level.fits
                && limit.limit.quota.mode == Mode::Enforce
                && longest.is_none_or(|(longest, _)| wait > longest)
            {
                longest = Some((wait, limit));
            }
        }
        match (longest, &self.denial) {
            (Some((_, limit)), _) => Outcome::Exceeds(limit),
            (None, Some(denial)) => Outcome::Denied(denial),
            (None, None) => Outcome::Admitted,
        }
    }

    fn fill(&mut self, permit: Permit<'t>, question: &Question, counters: &impl Counters) {
        let model = &*question.model;
        self.targets = shares(&permit, model);
        if !self.targets.iter().any(TargetShare::is_usable) {
            let message = "no deployment of the rule serves the model";
            let is_unknown = self
                .targets
                .iter()
                .all(|target| target.deployment.is_none());
            let code = if is_unknown && !self.targets.is_empty() {
                Code::ModelNotFound
            } else {
                Code::NoBackend
            };
            self.denial = Some(Denial::new(code, message));
        }
        let bound = permit.rule.output_tokens.bound(question.max_tokens);
        self.output_from = OutputFrom::of(permit.rule.output_tokens, question.max_tokens);
        self.usage.output_tokens = bound.unwrap_or_else(|| counters.output_tokens(&permit, model));
        let cost = Cost {
            usage: self.usage,
            cost_micros: permit.flat.max_price.hold_micros(self.usage),
        };
        let usable = self.targets.iter().filter(|target| target.is_usable());
        let mut deployments = usable.filter_map(|target| target.deployment);
        let is_known = deployments.all(|deployment| deployment.price.is_some());
        self.cost_micros = is_known.then_some(cost.cost_micros);
        let facts = permit.facts(&self.caller, Some(model));
        for limit in permit.limits(facts) {
            let probe = Probe { limit, facts };
            let cost = cost.of(limit.limit.unit);
            let level = counters.level(&probe, cost);
            self.limits.push(LimitForecast {
                limit,
                subject: limit.subject_text(&facts),
                cost,
                level,
            });
        }
        self.permit = Some(permit);
    }
}

fn shares<'t>(permit: &Permit<'t>, model: &str) -> Vec<TargetShare<'t>> {
    let mut totals: BTreeMap<u8, u64> = BTreeMap::new();
    let mut shares = Vec::new();
    for target in &permit.flat.targets {
        let endpoint = target.endpoint(model);
        let share = TargetShare {
            target,
            deployment: endpoint.map(|endpoint| &endpoint.deployment),
            percent: 0,
        };
        if share.is_usable() {
            let total = totals.entry(target.priority).or_default();
            *total = total.saturating_add(u64::from(target.weight));
        }
        shares.push(share);
    }
    for share in shares.iter_mut().filter(|share| share.is_usable()) {
        let total = totals.get(&share.target.priority).copied().unwrap_or(0);
        let part = u64::from(share.target.weight).saturating_mul(100);
        share.percent = part.checked_div(total).unwrap_or(0);
    }
    shares.sort_by_key(|share| share.target.priority);
    shares
}
