//! What is known of one request, for metrics and the access log. Facts are added and never taken back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use proxy_admin::clock;
use proxy_api::{Api, Dialect};
use proxy_core::auth::Caller;
use proxy_core::names::{Class, Usage};
use proxy_core::quota::LimitName;
use proxy_core::tokens::{Shape, Thoughts, Unreported, is_reasoning};
use proxy_ledger::Settled;

use crate::access::{Attempt, Entry};
use crate::detail::Detail;
use crate::endpoint::{Ongoing, Place};
use crate::live::{Account, LiveRule};
use crate::metrics::Metrics;

/// The facts of one request.
pub(crate) struct Record {
    pub(crate) request_id: HeaderValue,
    started: Instant,
    /// For the access log; `None` without one.
    pub(crate) detail: Option<Detail>,
    /// The row that serves it.
    pub(crate) api: Option<&'static Api>,
    pub(crate) model: Option<Arc<str>>,
    /// The model that the answer names, where its price depends on it.
    pub(crate) answered_model: Option<Box<str>>,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) rule: Option<Arc<LiveRule>>,
    /// Requests of higher classes go first.
    pub(crate) class: Class,
    /// What the rule counts of the caller.
    pub(crate) account: Option<Arc<Account>>,
    /// Where the last try went.
    pub(crate) endpoint: Option<Ongoing>,
    pub(crate) shape: Shape,
    /// What was reserved last.
    pub(crate) held: Option<Usage>,
    /// The limit that refused.
    pub(crate) limit: Option<LimitName>,
    /// The limits in mode `Shadow` that would have refused.
    pub(crate) shadow_limits: Vec<LimitName>,
    /// Of the body, as far as it was read.
    pub(crate) bytes_in: u64,
    /// Of the answer's body, as far as it was passed on.
    pub(crate) bytes_out: u64,
    pub(crate) tries: u8,
    /// The tries, if one of them failed.
    pub(crate) attempts: Vec<Attempt>,
    first_byte: Option<Duration>,
    /// From the begin of the last try to the head of its answer.
    upstream: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) streamed: bool,
    /// Where that stands in the table.
    pub(crate) place: Option<Arc<Place>>,
    /// What was settled, over all charges.
    pub(crate) usage: Usage,
    /// What it cost; `None` if a price is unknown.
    cost_micros: Option<u64>,
    /// How the last charge was settled.
    pub(crate) settled: Option<Settled>,
}

// === impl Record ===

impl Record {
    pub(crate) fn begin(request_id: HeaderValue, now: Instant) -> Self {
        Self {
            request_id,
            started: now,
            detail: None,
            api: None,
            model: None,
            answered_model: None,
            caller: None,
            rule: None,
            class: Class::default(),
            account: None,
            endpoint: None,
            shape: Shape::default(),
            held: None,
            limit: None,
            shadow_limits: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            tries: 0,
            attempts: Vec::new(),
            first_byte: None,
            upstream: None,
            status: 0,
            streamed: false,
            place: None,
            usage: Usage::default(),
            cost_micros: Some(0),
            settled: None,
        }
    }

    /// Whose shape errors have.
    pub(crate) fn dialect(&self) -> Dialect {
        self.api.map_or(Dialect::OpenAi, |api| api.dialect)
    }

    /// Marks the arrival of the backend's answer to a try that began at `began`.
    pub(crate) fn answered(&mut self, status: u16, began: Instant, now: Instant) {
        self.status = status;
        self.first_byte = Some(now.saturating_duration_since(self.started));
        let upstream = now.saturating_duration_since(began);
        self.upstream = Some(upstream);
        if !self.attempts.is_empty() {
            self.tried(Some(status), None, upstream);
        }
    }

    /// Lists the last try, which came to a status, or failed.
    pub(crate) fn tried(
        &mut self,
        status: Option<u16>,
        failed: Option<(&'static str, &str)>,
        lasted: Duration,
    ) {
        let Some(endpoint) = self.endpoint.as_deref() else {
            return;
        };
        let error = failed.map(|(_, error)| error);
        self.attempts.push(Attempt {
            backend: Arc::clone(&endpoint.backend),
            deployment: Arc::clone(&endpoint.deployment),
            status,
            cause: failed.map(|(cause, _)| cause),
            error: error.filter(|text| !text.is_empty()).map(Attempt::bounded),
            millis: millis(lasted),
        });
    }

    /// Counts bytes that go on to the client.
    pub(crate) fn passed(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes_out = self.bytes_out.saturating_add(bytes);
    }

    /// The model of the deployment that answers.
    pub(crate) fn deployed_model(&self) -> Option<&str> {
        let place = self.place.as_ref()?;
        Some(&place.declared.deployment.model)
    }

    /// The output of an answer that told no usage, by the tokens that it has shown and what it tells of thoughts.
    pub(crate) fn unreported(&self, shown: u64, thoughts: Thoughts, now: Instant) -> u64 {
        let rule = self.rule.as_ref().zip(self.model.as_ref());
        let expected = rule.map(|(rule, model)| rule.sizes.expected(model));
        let of_model = self.place.as_ref().and_then(|place| place.longest);
        let unreported = Unreported {
            shown,
            thoughts,
            reasons: self.deployed_model().is_some_and(is_reasoning),
            choices: self.shape.choices,
            bound: self.shape.max_output_tokens.or(of_model),
            lasted: self.since_call(now.saturating_duration_since(self.started)),
        };
        unreported.output_tokens(expected.unwrap_or_default())
    }

    /// Of the time since the request began, that since the try began which was answered.
    fn since_call(&self, lasted: Duration) -> Duration {
        let first_byte = self.first_byte.unwrap_or_default();
        let began = first_byte.saturating_sub(self.upstream.unwrap_or_default());
        lasted.saturating_sub(began)
    }

    /// The most that the answer can have used, if a deployment gives it.
    #[inline]
    pub(crate) fn most(&self) -> Option<Usage> {
        let most = self.place.as_ref()?.ceiling();
        Some(Usage {
            input_tokens: most.input_tokens.saturating_mul(self.shape.texts.max(1)),
            output_tokens: most.output_tokens.saturating_mul(self.shape.choices.max(1)),
            ..Usage::default()
        })
    }

    /// Whether the answer can have used as much. A backend that counts wrong must not lock a consumer out for years.
    pub(crate) fn can_be(&self, usage: Usage) -> bool {
        let Some(most) = self.most() else {
            return true;
        };
        let can_be =
            usage.input_tokens <= most.input_tokens && usage.output_tokens <= most.output_tokens;
        if !can_be {
            let endpoint = self.endpoint.as_deref();
            tracing::warn!(
                backend = endpoint.map(|one| &*one.backend),
                deployment = endpoint.map(|one| &*one.deployment),
                input_tokens = usage.input_tokens,
                output_tokens = usage.output_tokens,
                "a backend reports more usage than its model can have; it is taken for unknown"
            );
        }
        can_be
    }

    /// Adds what one charge came to; `cost_micros` is `None` if the price is unknown.
    pub(crate) fn settled(&mut self, usage: Usage, cost_micros: Option<u64>, how: Settled) {
        self.cost_micros = match (self.cost_micros, cost_micros) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            (None, _) | (_, None) => None,
        };
        self.usage = self.usage.plus(usage);
        self.settled = Some(how);
    }

    /// Counts the request, once, at its end.
    pub(crate) fn count(&self, metrics: &Metrics, code: &'static str, now: Instant) {
        let Some(rule) = &self.rule else {
            metrics.unrouted(code);
            return;
        };
        let account = self.account.as_deref();
        rule.metrics
            .ended(code, account.map(|account| &account.tokens));
        let lasted = now.saturating_duration_since(self.started);
        rule.metrics.duration.observe(lasted.as_secs_f64());
        if let Some(first_byte) = self.first_byte {
            rule.metrics.first_byte.observe(first_byte.as_secs_f64());
        }
        // What was cut or only counted says little of what the next request needs.
        if code == "ok"
            && self.settled == Some(Settled::Measured)
            && self.usage != Usage::default()
            && !self.shape.continues
            && let Some(model) = &self.model
        {
            let lasted = self.since_call(lasted);
            rule.sizes.observe(model, self.shape, self.usage, lasted);
        }
        if let Some(Account { tokens, .. }) = account
            && self.usage != Usage::default()
        {
            tokens.input.inc_by(self.usage.input_tokens);
            tokens.cached_input.inc_by(self.usage.cached_input_tokens);
            tokens.output.inc_by(self.usage.output_tokens);
            // Rare classes: a request without them touches no more counters.
            for (counter, used) in [
                (&tokens.cache_write, self.usage.cache_write_tokens),
                (&tokens.reasoning, self.usage.reasoning_tokens),
            ] {
                if used > 0 {
                    counter.inc_by(used);
                }
            }
            match self.cost_micros {
                Some(micros) => drop(tokens.cost_micros.inc_by(micros)),
                None => drop(tokens.unpriced.inc()),
            }
        }
    }

    /// The line of the access log, at the end of the request.
    pub(crate) fn entry(&self, code: &'static str, now: Instant) -> Entry<'_> {
        let rule = self.rule.as_ref().map(|rule| &rule.metrics);
        let endpoint = self.endpoint.as_deref();
        let used = self.usage != Usage::default();
        let detail = self.detail.as_ref();
        Entry {
            unix_micros: clock::unix_micros(now),
            request_id: self.request_id.to_str().unwrap_or(""),
            head: detail.map(Detail::head).unwrap_or_default(),
            dialect: self.api.map(|api| api.dialect.as_str()),
            operation: self.api.map(|api| api.operation.as_str()),
            model: self.model.as_deref(),
            consumer: self.caller.as_ref().map(|caller| &*caller.full_name),
            route: rule.map(|rule| &*rule.route),
            rule: rule.map(|rule| &*rule.rule),
            class: self.class,
            backend: endpoint.map(|endpoint| &*endpoint.backend),
            deployment: endpoint.map(|endpoint| &*endpoint.deployment),
            status: self.status,
            code,
            limit: self.limit.as_ref(),
            shadow_limits: &self.shadow_limits,
            stream: self.streamed,
            held_tokens: self
                .held
                .map(|held| [held.input_tokens, held.output_tokens]),
            input_tokens: self.usage.input_tokens,
            cached_input_tokens: self.usage.cached_input_tokens,
            cache_write_tokens: self.usage.cache_write_tokens,
            output_tokens: self.usage.output_tokens,
            reasoning_tokens: self.usage.reasoning_tokens,
            cost_micros: self.cost_micros.filter(|_| used),
            unpriced: used && self.cost_micros.is_none(),
            estimated: self.settled == Some(Settled::Estimated),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            tries: self.tries,
            attempts: &self.attempts,
            upstream_id: detail.map(Detail::upstream_id).unwrap_or_default(),
            upstream_ms: self.upstream.map(millis),
            first_byte_ms: self.first_byte.map(millis),
            duration_ms: millis(now.saturating_duration_since(self.started)),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
