//! What would become of a request: the rule, the limits, the backends and the verdict.
//!
//! A **forecast**: it takes no quota and holds none, so another request may come first. Whether a
//! request fits is derived from what remains; only reserving decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use proxy_admin::clock;
use proxy_core::admit::{Ask, Denial, Permit, admit, authenticate};
use proxy_core::auth::{Caller, Key, Standing};
use proxy_core::names::{Code, Moment, Usage};
use proxy_core::quota::{Cost, Mode, Wait};
use proxy_core::table::{FlatLimit, Table};

use proxy_ledger::{self as ledger, Counted};

use crate::gateway::Gateway;
use crate::live::Live;
use crate::standing;
use crate::state::Shared;

mod forecast;
mod question;
#[cfg(test)]
mod tests;

pub use forecast::{Choice, Explanation, LimitForecast, RuleName, Verdict};
pub use question::Question;

/// Whose counter of which limit is asked for.
#[derive(Clone, Copy, Debug)]
struct Probe<'a> {
    limit: &'a FlatLimit,
    caller: &'a Caller,
    model: &'a str,
    permit: &'a Permit<'a>,
}

/// What a limit allows, and what is used of it.
#[derive(Clone, Copy, Debug)]
struct Level {
    amount: u64,
    counted: Counted,
    /// Whether so much more fits, and when.
    fits: Result<(), Wait>,
}

impl Level {
    fn unused(amount: u64, asks: u64) -> Self {
        Self {
            amount,
            counted: Counted::default(),
            fits: (asks <= amount).then_some(()).ok_or(Wait::Never),
        }
    }
}

/// Where the numbers come from: a live gateway, or nowhere.
trait Counters {
    /// How the counter stands that the request would charge.
    fn level(&self, probe: &Probe<'_>, asks: u64) -> Level;

    /// Output tokens held for a request of the rule that sets no bound.
    fn output_tokens(&self, permit: &Permit<'_>, model: &str) -> u64;
}

struct Now<'a> {
    shared: &'a Shared,
    live: &'a Live,
    now: Moment,
}

impl Counters for Now<'_> {
    fn level(&self, probe: &Probe<'_>, asks: u64) -> Level {
        let limit = self.live.limit(&probe.limit.name);
        let limit = limit.map_or(&probe.limit.limit, |limit| &limit.limit);
        let (caller, model) = (probe.caller, Some(probe.model));
        let ledger = &self.shared.ledger;
        let slot = ledger.find(probe.limit, caller, model, probe.permit.route);
        let mut level = Level::unused(limit.amount, asks);
        if let Some(slot) = slot {
            level.counted = slot.counted(limit, self.now);
            level.fits = slot.forecast(limit, asks, self.now);
        }
        level
    }

    fn output_tokens(&self, permit: &Permit<'_>, model: &str) -> u64 {
        let rule = self.live.rule(permit.index);
        rule.and_then(|rule| rule.sizes.expected(model).output_tokens)
            .unwrap_or(self.shared.config.default_output_tokens)
    }
}

struct Unused {
    default_output_tokens: u64,
}

impl Counters for Unused {
    fn level(&self, probe: &Probe<'_>, asks: u64) -> Level {
        Level::unused(probe.limit.limit.amount, asks)
    }

    fn output_tokens(&self, _permit: &Permit<'_>, _model: &str) -> u64 {
        self.default_output_tokens
    }
}

impl Gateway {
    /// Forecasts a request by the table and the counters of now.
    ///
    /// # Errors
    /// The consumer is not known; says who is.
    pub fn explain(&self, question: &Question) -> Result<Explanation, String> {
        let shared = self.shared();
        let live = shared.live().ok_or("the gateway has no table yet")?;
        let counters = Now {
            shared,
            live: &live,
            now: clock::now(),
        };
        forecast(&live.table, question, &counters, counters.now)
    }

    /// The same for the admin port: the question is the query, the answer JSON.
    ///
    /// # Errors
    /// The question cannot be read, or the consumer is not known.
    pub fn explain_page(&self, query: &str) -> Result<String, String> {
        let explanation = self.explain(&Question::parse(query)?)?;
        serde_json::to_string(&explanation).map_err(|error| error.to_string())
    }
}

/// Forecasts a request by a table of which nothing is used.
///
/// # Errors
/// The consumer is not known; says who is.
pub fn unused(
    table: &Table,
    question: &Question,
    default_output_tokens: u64,
) -> Result<Explanation, String> {
    let counters = Unused {
        default_output_tokens,
    };
    forecast(table, question, &counters, clock::now())
}

fn forecast(
    table: &Table,
    question: &Question,
    counters: &impl Counters,
    now: Moment,
) -> Result<Explanation, String> {
    let headers = HeaderMap::new();
    let (caller, permit) = judge(table, question, &headers, now)?;
    let mut explanation = Explanation {
        consumer: if caller.namespace.is_empty() {
            caller.name.to_string()
        } else {
            format!("{}/{}", caller.namespace, caller.name)
        },
        rule: None,
        input_tokens: question.input_tokens,
        output_tokens: question.max_tokens.unwrap_or(0),
        limits: Vec::new(),
        backends: Vec::new(),
        verdict: Verdict::admitted(),
    };
    let permit = match permit {
        Ok(permit) => permit,
        Err(denial) => {
            explanation.verdict = Verdict::denied(denial);
            return Ok(explanation);
        }
    };
    explanation.rule = Some(RuleName {
        route: permit.route.name.to_string(),
        rule: permit.rule.name.to_string(),
    });
    explanation.backends = choices(&permit, &question.model);
    if !explanation.backends.iter().any(Choice::is_usable) {
        let message = "no backend of the rule has a deployment for the model";
        explanation.verdict = Verdict::denied(Denial::new(Code::NoBackend, message));
    }
    let held = || counters.output_tokens(&permit, &question.model);
    let usage = Usage {
        input_tokens: question.input_tokens,
        cached_input_tokens: 0,
        output_tokens: question.max_tokens.unwrap_or_else(held),
    };
    explanation.output_tokens = usage.output_tokens;
    let cost = Cost {
        usage,
        cost_micros: permit.flat.max_price.cost_micros(usage),
    };
    // Quota is taken before a backend is chosen, so a limit refuses first.
    let mut worst: Option<(Waits, Verdict)> = None;
    for limit in permit.limits(&caller, Some(&question.model)) {
        let probe = Probe {
            limit,
            caller: &caller,
            model: &question.model,
            permit: &permit,
        };
        let forecast = limit_forecast(&probe, &cost, counters);
        let waits = forecast.fits_in_seconds.map_or(Waits::Forever, Waits::Seconds);
        let refuses = !forecast.fits && limit.quota.mode == Mode::Enforce;
        if refuses && worst.as_ref().is_none_or(|(before, _)| waits > *before) {
            worst = Some((waits, Verdict::over(limit, &forecast)));
        }
        explanation.limits.push(forecast);
    }
    if let Some((_, verdict)) = worst {
        explanation.verdict = verdict;
    }
    Ok(explanation)
}

/// Who calls, and whether a rule takes the request. A consumer may have several keys: any that is
/// admitted does.
fn judge<'t>(
    table: &'t Table,
    question: &Question,
    headers: &HeaderMap,
    now: Moment,
) -> Result<(Caller, Result<Permit<'t>, Denial>), String> {
    let ask = Ask {
        host: &question.host,
        operation: question.operation,
        model: Some(&question.model),
        headers,
    };
    let mut judged = None;
    for key in keys_of(table, question)? {
        let caller = caller_of(key, question);
        let permit = may_call(table, key, question, now).and_then(|()| admit(table, &caller, &ask));
        if permit.is_ok() {
            return Ok((caller, permit));
        }
        judged.get_or_insert((caller, permit));
    }
    judged.ok_or_else(|| "no consumer is named".to_owned())
}

/// Ordered as the ledger orders refusals: the longest wait is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waits {
    Seconds(u64),
    Forever,
}

fn limit_forecast(probe: &Probe<'_>, cost: &Cost, counters: &impl Counters) -> LimitForecast {
    let flat = probe.limit;
    let asks = cost.of(flat.limit.unit);
    let level = counters.level(probe, asks);
    let remaining = level.amount.saturating_sub(level.counted.used);
    LimitForecast {
        limit: flat.name.to_string(),
        unit: flat.limit.unit.as_str().to_owned(),
        window: flat.limit.window.to_string(),
        mode: standing::mode(flat.quota.mode).to_owned(),
        subject: ledger::subject(flat, probe.caller, Some(probe.model), probe.permit.route).to_string(),
        asks,
        used: level.counted.used,
        reserved: level.counted.reserved,
        amount: level.amount,
        remaining,
        fits: level.fits.is_ok(),
        fits_in_seconds: match level.fits {
            Err(Wait::Millis(wait)) => Some(wait.div_ceil(1_000)),
            Ok(()) | Err(Wait::Never) => None,
        },
    }
}

fn choices(permit: &Permit<'_>, model: &str) -> Vec<Choice> {
    let mut totals: BTreeMap<u8, u64> = BTreeMap::new();
    let mut choices = Vec::new();
    for target in &permit.flat.targets {
        let deployment = target.endpoint(model).map(|endpoint| &endpoint.deployment);
        let choice = Choice {
            priority: target.priority,
            backend: target.backend.name.to_string(),
            deployment: deployment.map(|deployment| deployment.name.to_string()),
            weight: target.weight,
            share_percent: 0,
        };
        if choice.is_usable() {
            *totals.entry(target.priority).or_default() += u64::from(target.weight);
        }
        choices.push(choice);
    }
    for choice in &mut choices {
        let total = totals.get(&choice.priority).copied().unwrap_or(0);
        if choice.is_usable() {
            let part = u64::from(choice.weight).saturating_mul(100);
            choice.share_percent = part.checked_div(total).unwrap_or(0);
        }
    }
    choices.sort_by_key(|choice| choice.priority);
    choices
}

/// The keys of the consumer that is asked about; one `None` for a caller without a key of ours.
fn keys_of<'t>(
    table: &'t Table,
    question: &Question,
) -> Result<Vec<Option<&'t Key>>, String> {
    let Some(wanted) = &question.consumer else {
        return Ok(vec![None]);
    };
    let full = |key: &Key| format!("{}/{}", key.secret.namespace(), key.consumer);
    let found: Vec<&Key> = table
        .contents()
        .keys
        .iter()
        .map(|key| &**key)
        .filter(|key| *key.consumer == **wanted || full(key) == **wanted)
        .collect();
    let mut names: Vec<String> = found.iter().map(|key| full(key)).collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 if question::is_fingerprint(wanted) => Ok(vec![None]),
        0 => {
            let all = table.contents().keys.iter().map(|key| &*key.consumer);
            Err(question::unknown_consumer(wanted, all))
        }
        1 => Ok(found.into_iter().map(Some).collect()),
        _ => Err(format!(
            "several consumers are named {wanted:?}; say which: {}",
            names.join(", ")
        )),
    }
}

fn caller_of(key: Option<&Key>, question: &Question) -> Caller {
    match (key, &question.consumer) {
        (Some(key), _) => Caller {
            name: Arc::clone(&key.consumer),
            namespace: key.secret.namespace().into(),
            attributes: key.attributes.clone(),
            standing: Standing::Known(key.secret.clone()),
        },
        (None, Some(fingerprint)) => Caller {
            name: fingerprint.as_str().into(),
            standing: Standing::Unknown,
            ..Caller::anonymous()
        },
        (None, None) => Caller::anonymous(),
    }
}

/// What is judged before the body of a request is read.
fn may_call(
    table: &Table,
    key: Option<&Key>,
    question: &Question,
    now: Moment,
) -> Result<(), Denial> {
    match (key, &question.consumer) {
        (Some(key), _) if key.expires_ms.is_some_and(|end| now.unix_ms >= end) => Err(Denial::new(
            Code::ExpiredCredential,
            "the API key has expired",
        )),
        (Some(_), _) => Ok(()),
        (None, None) => authenticate(table, &question.host, None, now).map(|_caller| ()),
        (None, Some(_)) => {
            let routes = &table.contents().routes;
            let admits = routes.iter().any(|route| {
                let accepted = &route.authentication;
                (accepted.pass_through || accepted.anonymous) && route.serves(&question.host)
            });
            admits
                .then_some(())
                .ok_or_else(|| Denial::new(Code::InvalidCredential, "the API key is not known"))
        }
    }
}
