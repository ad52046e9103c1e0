//! What the gateway counts. Names carry the prefix that the binary's registry gives.
//!
//! Label values are closed words or names of objects in the table; never text of a caller.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use proxy_admin::connection::Faults;
use proxy_core::names::Class;
use proxy_core::table::{Route, Rule};

use crate::overload::Refused;
use crate::tls;

#[cfg(test)]
mod tests;

/// Seconds. The upper buckets go beyond `OTel`'s, since Azure lets a call last 29 minutes.
const SECONDS: [f64; 18] = [
    0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    163.84, 600.0, 1800.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RuleLabels {
    route: String,
    rule: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    route: String,
    rule: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    route: String,
    consumer: String,
    token_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConsumerLabels {
    route: String,
    consumer: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConsumerOutcomeLabels {
    route: String,
    consumer: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BackendLabels {
    backend: String,
    deployment: String,
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RetryLabels {
    backend: String,
    deployment: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct YieldLabels {
    backend: String,
    deployment: String,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabels {
    backend: String,
    deployment: String,
}

/// All metrics of a gateway.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<OutcomeLabels, Counter>,
    of_consumers: Family<ConsumerOutcomeLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<ConsumerLabels, Counter>,
    unpriced: Family<ConsumerLabels, Counter>,
    upstream: Family<BackendLabels, Counter>,
    waited: Family<EndpointLabels, Counter<f64, AtomicU64>>,
    retries: Family<RetryLabels, Counter>,
    load: Family<EndpointLabels, Gauge>,
    failures: Family<EndpointLabels, Gauge>,
    is_in: Family<EndpointLabels, Gauge>,
    cached_share: Family<EndpointLabels, Gauge<f64, AtomicU64>>,
    ejections: Family<RetryLabels, Counter>,
    yields: Family<YieldLabels, Counter>,
    cuts: Family<EndpointLabels, Counter>,
    unconfirmed: Family<EndpointLabels, Counter>,
    duration: Family<RuleLabels, Histogram, fn() -> Histogram>,
    first_byte: Family<RuleLabels, Histogram, fn() -> Histogram>,
    pub(crate) ledger: proxy_ledger::Metrics,
    pub(crate) identity: proxy_identity::Metrics,
    /// Requests that are refused in an overload.
    pub(crate) refused: Refused,
    /// When certificates for HTTPS end.
    pub(crate) certificates: tls::Ends,
    /// Requests that are running.
    pub(crate) in_flight: Gauge,
    /// Open connections of clients.
    pub(crate) connections: Gauge,
    /// Errors of those on HTTP/2.
    pub(crate) faults: Faults,
    /// Lines of the access log that were lost.
    pub(crate) access_log_dropped: Counter,
    /// When the table in force was published, in seconds since the Unix epoch.
    pub(crate) table_published: Gauge<f64, AtomicU64>,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            of_consumers: Family::default(),
            tokens: Family::default(),
            cost: Family::default(),
            unpriced: Family::default(),
            upstream: Family::default(),
            waited: Family::default(),
            retries: Family::default(),
            load: Family::default(),
            failures: Family::default(),
            is_in: Family::default(),
            cached_share: Family::default(),
            ejections: Family::default(),
            yields: Family::default(),
            cuts: Family::default(),
            unconfirmed: Family::default(),
            duration: Family::new_with_constructor(histogram),
            first_byte: Family::new_with_constructor(histogram),
            ledger: proxy_ledger::Metrics::register(registry),
            identity: proxy_identity::Metrics::register(registry),
            refused: Refused::register(registry),
            certificates: tls::Ends::register(registry),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            faults: Faults::register(registry),
            access_log_dropped: Counter::default(),
            table_published: Gauge::default(),
        };
        let m = &metrics;
        registry.register(
            "requests",
            "Requests ended, by route, rule and code: ok, upstream_error or a word of docs/errors.md",
            m.requests.clone(),
        );
        m.register_usage(registry);
        m.register_upstream(registry);
        registry.register_with_unit(
            "request_duration",
            "From the request's head to the end of its answer",
            Unit::Seconds,
            m.duration.clone(),
        );
        registry.register_with_unit(
            "time_to_first_byte",
            "From the request's head to the backend's answer",
            Unit::Seconds,
            m.first_byte.clone(),
        );
        registry.register(
            "in_flight_requests",
            "Requests that are running",
            m.in_flight.clone(),
        );
        registry.register(
            "downstream_connections",
            "Open connections of clients",
            m.connections.clone(),
        );
        registry.register(
            "access_log_dropped",
            "Lines of the access log that were lost since their reader does not keep up",
            m.access_log_dropped.clone(),
        );
        registry.register_with_unit(
            "table_published_timestamp",
            "When the table in force was published, since the Unix epoch; 0 before the first one",
            Unit::Seconds,
            m.table_published.clone(),
        );
        metrics
    }

    /// Registers what is counted of calls to deployments.
    fn register_upstream(&self, registry: &mut Registry) {
        registry.register(
            "upstream_responses",
            "Tries sent to a deployment, by status, or by a word of docs/errors.md without one",
            self.upstream.clone(),
        );
        registry.register_with_unit(
            "upstream_wait",
            "Time in which calls to a deployment waited for the heads of its answers, connecting included",
            Unit::Seconds,
            self.waited.clone(),
        );
        registry.register(
            "upstream_retries",
            "Tries after a failed one, by the deployment that failed and the reason: upstream_error, or a word \
             of docs/errors.md",
            self.retries.clone(),
        );
        registry.register(
            "upstream_in_flight",
            "Calls to a deployment that are under way, from the try to the end of its answer",
            self.load.clone(),
        );
        registry.register(
            "upstream_failures_in_a_row",
            "Tries of a deployment that failed (no answer, 429, 5xx, 408, 421 or 424, its credential refused, not \
             there) since its last good answer",
            self.failures.clone(),
        );
        registry.register(
            "upstream_in",
            "1 while a deployment takes its share of requests, 0 while it is left out",
            self.is_in.clone(),
        );
        registry.register(
            "cached_input_share",
            "Part of the input tokens of a deployment that its prompt cache had, of late (0 to 1); missing until an \
             answer reports usage",
            self.cached_share.clone(),
        );
        registry.register(
            "upstream_ejections",
            "Times that a deployment was left out, by reason (docs/balancing.md)",
            self.ejections.clone(),
        );
        registry.register(
            "upstream_yields",
            "Requests that a deployment was kept from for higher classes, by class (docs/balancing.md)",
            self.yields.clone(),
        );
        registry.register(
            "upstream_cut_answers",
            "Answers of a deployment that began and were no good: cut, empty, or an error within a success",
            self.cuts.clone(),
        );
        registry.register(
            "unconfirmed_tokens",
            "Tokens reserved for calls that were sent and not answered: given back, and perhaps billed",
            self.unconfirmed.clone(),
        );
    }

    /// Registers what is counted of tokens and money.
    fn register_usage(&self, registry: &mut Registry) {
        registry.register(
            "consumer_requests",
            "Requests ended that a route took, by route, consumer and code",
            self.of_consumers.clone(),
        );
        registry.register(
            "tokens",
            "Tokens settled, by route, consumer and type: input, cached_input and cache_write (parts of \
             input), output, reasoning (part of output)",
            self.tokens.clone(),
        );
        registry.register(
            "cost_micros",
            "Cost settled in micros of the currency, by route and consumer, where the price is known",
            self.cost.clone(),
        );
        registry.register(
            "unpriced_requests",
            "Requests answered by a deployment without a price, by route and consumer",
            self.unpriced.clone(),
        );
    }

    /// Counts a request that no rule was found for.
    pub(crate) fn unrouted(&self, code: &str) {
        self.ended("", "", code);
    }

    fn ended(&self, route: &str, rule: &str, code: &str) {
        let labels = OutcomeLabels {
            route: route.to_owned(),
            rule: rule.to_owned(),
            code: code.to_owned(),
        };
        self.requests.get_or_create(&labels).inc();
    }

    fn of_consumer(&self, route: &str, consumer: &str, code: &str) -> Counter {
        let labels = ConsumerOutcomeLabels {
            route: route.to_owned(),
            consumer: consumer.to_owned(),
            code: code.to_owned(),
        };
        self.of_consumers.get_or_create_owned(&labels)
    }

    /// Tries of a deployment that came to `status`.
    pub(crate) fn tries(&self, backend: &str, deployment: &str, status: &str) -> Counter {
        let labels = BackendLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
            status: status.to_owned(),
        };
        self.upstream.get_or_create_owned(&labels)
    }

    /// The time in which calls to a deployment waited for its answers.
    pub(crate) fn waited(&self, backend: &str, deployment: &str) -> Counter<f64, AtomicU64> {
        let labels = EndpointLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
        };
        self.waited.get_or_create_owned(&labels)
    }

    /// The part of a deployment's input that its prompt cache had.
    pub(crate) fn cached_share(&self, backend: &str, deployment: &str) -> Gauge<f64, AtomicU64> {
        let labels = EndpointLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
        };
        self.cached_share.get_or_create_owned(&labels)
    }

    /// Counts that a try of a deployment failed and another endpoint is tried.
    pub(crate) fn retried(&self, backend: &str, deployment: &str, reason: &'static str) {
        let labels = RetryLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
            reason,
        };
        self.retries.get_or_create_owned(&labels).inc();
    }

    /// Calls to a deployment that are under way.
    pub(crate) fn load(&self, backend: &str, deployment: &str) -> Gauge {
        let labels = EndpointLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
        };
        self.load.get_or_create_owned(&labels)
    }

    /// Tries of a deployment that failed since its last good answer.
    pub(crate) fn failures(&self, backend: &str, deployment: &str) -> Gauge {
        let labels = EndpointLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
        };
        self.failures.get_or_create_owned(&labels)
    }

    /// 1 while a deployment is not left out.
    pub(crate) fn is_in(&self, backend: &str, deployment: &str) -> Gauge {
        let labels = EndpointLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
        };
        let gauge = self.is_in.get_or_create_owned(&labels);
        gauge.set(1);
        gauge
    }

    /// Counts that a deployment is left out.
    pub(crate) fn ejected(&self, backend: &str, deployment: &str, reason: &'static str) {
        let labels = RetryLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
            reason,
        };
        self.ejections.get_or_create_owned(&labels).inc();
    }

    /// Counts that a deployment was kept from a request of this class, for higher ones.
    pub(crate) fn yielded(&self, backend: &str, deployment: &str, class: Class) {
        let labels = YieldLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
            class: class.as_str(),
        };
        self.yields.get_or_create_owned(&labels).inc();
    }

    /// Counts that an answer broke off after it began.
    pub(crate) fn cut(&self, backend: &str, deployment: &str) {
        let labels = EndpointLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
        };
        self.cuts.get_or_create_owned(&labels).inc();
    }

    /// Counts the reservation of a call that was sent to a deployment and has no answer.
    pub(crate) fn unconfirmed(&self, backend: &str, deployment: &str, tokens: u64) {
        let labels = EndpointLabels {
            backend: backend.to_owned(),
            deployment: deployment.to_owned(),
        };
        self.unconfirmed.get_or_create_owned(&labels).inc_by(tokens);
    }

    pub(crate) fn rule(&self, route: &Route, rule: &Rule) -> RuleMetrics {
        self.rule_named(&route.name.to_string(), &rule.name)
    }

    fn rule_named(&self, route: &str, rule: &str) -> RuleMetrics {
        let labels = RuleLabels {
            route: route.to_owned(),
            rule: rule.to_owned(),
        };
        let ok = OutcomeLabels {
            route: labels.route.clone(),
            rule: labels.rule.clone(),
            code: "ok".to_owned(),
        };
        RuleMetrics {
            ok: self.requests.get_or_create(&ok).clone(),
            duration: self.duration.get_or_create(&labels).clone(),
            first_byte: self.first_byte.get_or_create(&labels).clone(),
            metrics: self.clone(),
            route: labels.route.into(),
            rule: labels.rule.into(),
        }
    }
}

/// Handles for one rule, looked up once per table.
#[derive(Debug)]
pub(crate) struct RuleMetrics {
    ok: Counter,
    pub(crate) duration: Histogram,
    pub(crate) first_byte: Histogram,
    metrics: Metrics,
    /// `namespace/name` of the route.
    pub(crate) route: Arc<str>,
    pub(crate) rule: Arc<str>,
}

impl RuleMetrics {
    /// Counts the end of a request; `code` is `ok` for an answer of the backend below 400.
    pub(crate) fn ended(&self, code: &str, of: Option<&ConsumerCounters>) {
        if code == "ok" {
            self.ok.inc();
            if let Some(of) = of {
                of.ok.inc();
            }
            return;
        }
        self.metrics.ended(&self.route, &self.rule, code);
        if let Some(of) = of {
            let counter = self.metrics.of_consumer(&self.route, &of.consumer, code);
            counter.inc();
        }
    }

    /// The tokens of a consumer on the route.
    pub(crate) fn tokens(&self, consumer: &str) -> ConsumerCounters {
        let labels = || ConsumerLabels {
            route: self.route.to_string(),
            consumer: consumer.to_owned(),
        };
        let counter = |token_type| {
            let labels = TokenLabels {
                route: self.route.to_string(),
                consumer: consumer.to_owned(),
                token_type,
            };
            self.metrics.tokens.get_or_create(&labels).clone()
        };
        ConsumerCounters {
            ok: self.metrics.of_consumer(&self.route, consumer, "ok"),
            consumer: consumer.into(),
            input: counter("input"),
            cached_input: counter("cached_input"),
            cache_write: counter("cache_write"),
            output: counter("output"),
            reasoning: counter("reasoning"),
            cost_micros: self.metrics.cost.get_or_create_owned(&labels()),
            unpriced: self.metrics.unpriced.get_or_create_owned(&labels()),
        }
    }
}

/// Handles for one consumer on one route.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerCounters {
    /// Its name as a label.
    consumer: Arc<str>,
    /// Requests that were answered.
    ok: Counter,
    pub(crate) input: Counter,
    pub(crate) cached_input: Counter,
    pub(crate) cache_write: Counter,
    pub(crate) output: Counter,
    pub(crate) reasoning: Counter,
    /// The cost, where the price is known.
    pub(crate) cost_micros: Counter,
    /// Requests whose price is unknown.
    pub(crate) unpriced: Counter,
}
