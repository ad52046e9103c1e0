//! One request from its head to the end of its answer: what it reserved, and what is recorded.
//!
//! The guard settles and records exactly once, also when it is dropped: a client that hangs up,
//! a connection that breaks and a handler that panics all pass through [`Exchange::drop`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use proxy_admin::clock;
use proxy_core::auth::Caller;
use proxy_core::names::{Operation, Usage};
use proxy_core::quota::Cost;
use proxy_core::tokens::{Price, Shape};
use tracing::info;

use crate::ledger::{Charge, Settled};
use crate::live::Live;
use crate::server::Shared;

/// The state of one request.
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    pub(crate) live: Option<Arc<Live>>,
    pub(crate) request_id: HeaderValue,
    started: Instant,
    pub(crate) operation: Option<Operation>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) caller: Option<Arc<Caller>>,
    /// Index of the rule in the table.
    pub(crate) rule: Option<usize>,
    /// `namespace/name` of the backend that was asked last.
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) deployment: Option<Arc<str>>,
    pub(crate) price: Price,
    pub(crate) shape: Shape,
    pub(crate) charge: Option<Charge>,
    pub(crate) tries: u8,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) streamed: bool,
    usage: Usage,
    settled: Option<Settled>,
    ended: bool,
}

impl Exchange {
    pub(crate) fn begin(shared: &Arc<Shared>, request_id: HeaderValue) -> Self {
        shared.metrics.in_flight.inc();
        Self {
            shared: Arc::clone(shared),
            live: shared.live(),
            request_id,
            started: clock::instant(),
            operation: None,
            model: None,
            caller: None,
            rule: None,
            backend: None,
            deployment: None,
            price: Price::default(),
            shape: Shape::default(),
            charge: None,
            tries: 0,
            first_byte: None,
            status: 0,
            streamed: false,
            usage: Usage::default(),
            settled: None,
            ended: false,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        clock::instant().saturating_duration_since(self.started)
    }

    /// Marks the arrival of the backend's answer.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
        let elapsed = self.elapsed();
        self.first_byte = Some(elapsed);
    }

    /// Settles by what the backend told.
    pub(crate) fn measured(&mut self, usage: Usage) {
        self.settle(usage, Settled::Measured);
    }

    /// Settles by the input that was held and the output that was counted.
    pub(crate) fn estimated(&mut self, output_tokens: u64) {
        let held = self
            .charge
            .as_ref()
            .map(|charge| charge.estimate.usage)
            .unwrap_or_default();
        self.settle(
            Usage {
                output_tokens,
                ..held
            },
            Settled::Estimated,
        );
    }

    /// Settles an answer of `size` bytes that tells no usage: perhaps it goes on in the background.
    pub(crate) fn unknown(&mut self, size: usize) {
        let held = self.charge.as_ref();
        let held = held.map_or(0, |charge| charge.estimate.usage.output_tokens);
        let read = u64::try_from(size.div_ceil(4)).unwrap_or(u64::MAX);
        self.estimated(held.max(read));
    }

    /// Gives the reservation back.
    pub(crate) fn released(&mut self) {
        self.settle(Usage::default(), Settled::Released);
    }

    fn settle(&mut self, usage: Usage, how: Settled) {
        let Some(charge) = &mut self.charge else {
            return;
        };
        if self.settled.is_some() {
            return;
        }
        let cost = Cost {
            usage,
            cost_micros: self.price.cost_micros(usage),
        };
        match how {
            Settled::Released => charge.release(),
            Settled::Measured | Settled::Estimated => charge.settle(cost, how),
        }
        (self.usage, self.settled) = (usage, Some(how));
    }

    /// Ends the request with a code: `ok`, `upstream_error`, `client_aborted` or a reason word.
    pub(crate) fn end(&mut self, code: &'static str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(charge) = &self.charge {
            // Nobody settled: at what is known so far.
            let usage = charge.estimate.usage;
            self.settle(usage, Settled::Estimated);
        }
        self.count(code);
        if self.shared.config.access_log {
            self.log(code);
        }
    }

    fn count(&self, code: &'static str) {
        let metrics = &self.shared.metrics;
        metrics.in_flight.dec();
        let live = self.live.as_ref();
        let Some((live, index)) = live.zip(self.rule) else {
            metrics.unrouted(code);
            return;
        };
        let Some(rule) = live.rules.get(index) else {
            return;
        };
        rule.metrics.ended(code);
        rule.metrics.duration.observe(self.elapsed().as_secs_f64());
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
        if let Some(caller) = &self.caller
            && self.usage != Usage::default()
        {
            let tokens = live.tokens(index, caller);
            tokens.input.inc_by(self.usage.input_tokens);
            tokens.cached_input.inc_by(self.usage.cached_input_tokens);
            tokens.output.inc_by(self.usage.output_tokens);
        }
    }

    fn log(&self, code: &'static str) {
        let permit = self.live.as_ref().zip(self.rule).and_then(|(live, index)| {
            let flat = live.table.rules().get(index)?;
            Some((&flat.route.name, &flat.rule))
        });
        info!(
            target: "access",
            request_id = self.request_id.to_str().unwrap_or(""),
            operation = self.operation.map(Operation::as_str),
            model = self.model.as_deref(),
            consumer = self.caller.as_ref().map(|caller| &*caller.name),
            route = permit.map(|(route, _)| tracing::field::display(route)),
            rule = permit.map(|(_, rule)| &*rule.name),
            backend = self.backend.as_deref(),
            deployment = self.deployment.as_deref(),
            status = self.status,
            code,
            stream = self.streamed,
            input_tokens = self.usage.input_tokens,
            cached_input_tokens = self.usage.cached_input_tokens,
            output_tokens = self.usage.output_tokens,
            estimated = self.settled == Some(Settled::Estimated),
            tries = self.tries,
            first_byte_ms = self.first_byte.map(millis),
            duration_ms = millis(self.elapsed()),
            "request"
        );
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let code = if std::thread::panicking() {
            "internal"
        } else {
            "client_aborted"
        };
        self.end(code);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
