//! `/explain`: the forecast of a request by the table and the counters of this gateway.

use proxy_admin::clock;
use proxy_admin::pages::explanation::Explanation;
use proxy_admin::pages::question::{self, InvalidQuestion};
use proxy_api::served;
use proxy_core::admit::Permit;
use proxy_core::names::{Code, Moment, Operation};
use proxy_core::whatif::{CounterLevel, Counters, InvalidConsumer, Probe, Question, forecast};

use crate::gateway::Gateway;
use crate::live::Live;
use crate::state::Shared;

#[cfg(test)]
mod tests;

/// Why a request cannot be forecast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The query is malformed.
    #[error(transparent)]
    Question(#[from] InvalidQuestion),
    /// The consumer is unknown or ambiguous.
    #[error(transparent)]
    Consumer(#[from] InvalidConsumer),
    /// No table was published yet.
    #[error("the gateway has no table yet")]
    NoTable,
}

/// The counters of a gateway at one moment.
struct LiveCounters<'a> {
    shared: &'a Shared,
    live: &'a Live,
    now: Moment,
}

impl Counters for LiveCounters<'_> {
    fn serves(&self, operation: Operation) -> bool {
        served(self.shared.config.apis).contains(&operation)
    }

    fn level(&self, probe: &Probe<'_>, cost: u64) -> CounterLevel {
        let limit = self.live.limit(&probe.limit.name);
        let limit = limit.map(|limit| limit.for_caller(probe.facts.caller));
        let limit = limit.map_or(&probe.limit.limit, |limit| &limit.limit);
        let slot = self.shared.ledger.find(probe.limit, &probe.facts);
        let Some(slot) = slot else {
            return CounterLevel::unused(limit.amount, cost);
        };
        let counted = slot.counted(limit, self.now);
        CounterLevel {
            amount: limit.amount,
            used: counted.used,
            reserved: counted.reserved,
            fits: slot.forecast(limit, cost, self.now),
        }
    }

    fn output_tokens(&self, permit: &Permit<'_>, model: &str) -> u64 {
        let rule = self.live.rule(permit.index);
        rule.and_then(|rule| rule.sizes.expected(model).output_tokens)
            .unwrap_or(self.shared.config.default_output_tokens)
    }
}

impl Gateway {
    /// Forecasts a request.
    ///
    /// # Errors
    /// There is no table, or not exactly one such consumer.
    pub fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        let shared = self.shared();
        let live = shared.live().ok_or(ExplainError::NoTable)?;
        let counters = LiveCounters {
            shared,
            live: &live,
            now: clock::now(),
        };
        let forecast = forecast(&live.table, question, &counters, counters.now)?;
        let mut explanation = Explanation::from(&forecast);
        let now = clock::instant();
        for choice in &mut explanation.backends {
            let identity = live.identity(&choice.backend);
            let trouble = identity.and_then(|identity| identity.trouble(now));
            choice.no_token = trouble.map(|trouble| trouble.word().into_owned());
        }
        let verdict = &mut explanation.verdict;
        let choices = explanation.backends.iter();
        let mut usable = choices.filter(|one| one.deployment.is_some() && one.weight > 0);
        if verdict.admitted && usable.all(|choice| choice.no_token.is_some()) {
            verdict.admitted = false;
            verdict.code = Some(Code::BackendCredentialRefused.as_str().to_owned());
            verdict.reason =
                "the limits have room, but the gateway has a token for no backend of the rule"
                    .to_owned();
        }
        Ok(explanation)
    }

    /// Forecasts the request that the query of the admin port describes.
    ///
    /// # Errors
    /// As [`Gateway::explain`], or the query is malformed.
    pub fn explain_page(&self, query: &str) -> Result<Explanation, ExplainError> {
        self.explain(&question::parse(query)?)
    }
}
