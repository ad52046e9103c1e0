//! What is known of one request, for metrics and the access log. Facts are added and never taken back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use proxy_admin::clock;
use proxy_api::{Api, Dialect};
use proxy_core::auth::Caller;
use proxy_core::names::Usage;
use proxy_core::tokens::Shape;
use proxy_ledger::Settled;

use crate::access::Entry;
use crate::endpoint::Ongoing;
use crate::live::{Account, LiveRule};
use crate::metrics::Metrics;

/// The facts of one request.
pub(crate) struct Record {
    pub(crate) request_id: HeaderValue,
    started: Instant,
    /// The row that serves it.
    pub(crate) api: Option<&'static Api>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) rule: Option<Arc<LiveRule>>,
    /// What the rule counts of the caller.
    pub(crate) account: Option<Arc<Account>>,
    /// Where the last try went.
    pub(crate) endpoint: Option<Ongoing>,
    pub(crate) shape: Shape,
    pub(crate) tries: u8,
    first_byte: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) streamed: bool,
    /// What was settled, over all charges.
    pub(crate) usage: Usage,
    /// How the last charge was settled.
    pub(crate) settled: Option<Settled>,
}

// === impl Record ===

impl Record {
    pub(crate) fn begin(request_id: HeaderValue, now: Instant) -> Self {
        Self {
            request_id,
            started: now,
            api: None,
            model: None,
            caller: None,
            rule: None,
            account: None,
            endpoint: None,
            shape: Shape::default(),
            tries: 0,
            first_byte: None,
            status: 0,
            streamed: false,
            usage: Usage::default(),
            settled: None,
        }
    }

    /// Whose shape errors have.
    pub(crate) fn dialect(&self) -> Dialect {
        self.api.map_or(Dialect::OpenAi, |api| api.dialect)
    }

    /// Marks the arrival of the backend's answer.
    pub(crate) fn answered(&mut self, status: u16, now: Instant) {
        self.status = status;
        self.first_byte = Some(now.saturating_duration_since(self.started));
    }

    /// Adds what one charge came to.
    pub(crate) fn settled(&mut self, usage: Usage, how: Settled) {
        let add = u64::saturating_add;
        self.usage = Usage {
            input_tokens: add(self.usage.input_tokens, usage.input_tokens),
            cached_input_tokens: add(self.usage.cached_input_tokens, usage.cached_input_tokens),
            output_tokens: add(self.usage.output_tokens, usage.output_tokens),
        };
        self.settled = Some(how);
    }

    /// Counts the request, once, at its end.
    pub(crate) fn count(&self, metrics: &Metrics, code: &'static str, now: Instant) {
        let Some(rule) = &self.rule else {
            metrics.unrouted(code);
            return;
        };
        rule.metrics.ended(code);
        let lasted = now.saturating_duration_since(self.started);
        rule.metrics.duration.observe(lasted.as_secs_f64());
        if let Some(first_byte) = self.first_byte {
            rule.metrics.first_byte.observe(first_byte.as_secs_f64());
        }
        // What was cut or only counted says little of what the next request needs.
        if code == "ok"
            && self.settled == Some(Settled::Measured)
            && let Some(model) = &self.model
        {
            rule.sizes.observe(model, self.shape, self.usage);
        }
        if let Some(Account { tokens, .. }) = self.account.as_deref()
            && self.usage != Usage::default()
        {
            tokens.input.inc_by(self.usage.input_tokens);
            tokens.cached_input.inc_by(self.usage.cached_input_tokens);
            tokens.output.inc_by(self.usage.output_tokens);
        }
    }

    /// The line of the access log, at the end of the request.
    pub(crate) fn entry(&self, code: &'static str, now: Instant) -> Entry<'_> {
        let rule = self.rule.as_ref().map(|rule| &rule.metrics);
        let endpoint = self.endpoint.as_deref();
        Entry {
            unix_micros: clock::unix_micros(now),
            request_id: self.request_id.to_str().unwrap_or(""),
            operation: self.api.map(|api| api.operation.as_str()),
            model: self.model.as_deref(),
            consumer: self.caller.as_ref().map(|caller| &*caller.name),
            route: rule.map(|rule| &*rule.route),
            rule: rule.map(|rule| &*rule.rule),
            backend: endpoint.map(|endpoint| &*endpoint.backend),
            deployment: endpoint.map(|endpoint| &*endpoint.deployment),
            status: self.status,
            code,
            stream: self.streamed,
            input_tokens: self.usage.input_tokens,
            cached_input_tokens: self.usage.cached_input_tokens,
            output_tokens: self.usage.output_tokens,
            estimated: self.settled == Some(Settled::Estimated),
            tries: self.tries,
            first_byte_ms: self.first_byte.map(millis),
            duration_ms: millis(now.saturating_duration_since(self.started)),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
