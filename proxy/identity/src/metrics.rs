//! What is counted about tokens.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_core::table::Identity;

use crate::failure::NoToken;

/// An identity, as the AIBackend declares it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IdentityLabels {
    r#type: &'static str,
    client_id: String,
    scope: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FetchLabels {
    r#type: &'static str,
    client_id: String,
    scope: String,
    outcome: &'static str,
}

/// An issuer, as AIRoutes list it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    issuer: String,
    outcome: &'static str,
}

/// All metrics of identities.
#[derive(Clone, Debug)]
pub struct Metrics {
    tokens: Family<OutcomeLabels, Counter>,
    key_fetches: Family<OutcomeLabels, Counter>,
    keys_fetched: Family<IssuerLabels, Gauge<f64, AtomicU64>>,
    fetches: Family<FetchLabels, Counter>,
    ends: Family<IdentityLabels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            tokens: Family::default(),
            key_fetches: Family::default(),
            keys_fetched: Family::default(),
            fetches: Family::default(),
            ends: Family::default(),
        };
        registry.register(
            "backend_token_requests",
            "Requests for a token that the gateway shows to backends, by the identity's type, client id \
             and scope, and the outcome: ok, refused, throttled, failed, unreachable or not_set_up",
            metrics.fetches.clone(),
        );
        registry.register(
            "backend_token_end_timestamp_seconds",
            "When the current token of an identity ends, in seconds since the Unix epoch; 0 before the \
             first one",
            metrics.ends.clone(),
        );
        registry.register(
            "caller_tokens",
            "Tokens of callers that were judged, by their issuer and the outcome: ok, or why they are not \
             good. A good token that is shown again is not judged again for an hour",
            metrics.tokens.clone(),
        );
        registry.register(
            "issuer_key_requests",
            "Requests for the keys of a callers' issuer, by the issuer and the outcome: ok or failed",
            metrics.key_fetches.clone(),
        );
        registry.register(
            "issuer_keys_fetched_timestamp_seconds",
            "When the keys of a callers' issuer were fetched last, in seconds since the Unix epoch; 0: not yet \
             by this process",
            metrics.keys_fetched.clone(),
        );
        metrics
    }

    pub(crate) fn fetches_of(&self, issuer: &str) -> KeyFetches {
        let labels = IssuerLabels {
            issuer: issuer.to_owned(),
        };
        // A series from the beginning: an issuer without keys is the one to be seen.
        drop(self.keys_fetched.get_or_create(&labels));
        KeyFetches {
            metrics: self.clone(),
            labels,
        }
    }

    pub(crate) fn outcomes_of(&self, issuer: &str) -> TokenOutcomes {
        TokenOutcomes {
            metrics: self.clone(),
            issuer: issuer.to_owned(),
        }
    }

    /// No table lists the issuer any more.
    pub(crate) fn retire_issuer(&self, issuer: &str) {
        let issuer = issuer.to_owned();
        self.keys_fetched.remove(&IssuerLabels { issuer });
    }

    pub(crate) fn of(&self, identity: &Identity) -> Handles {
        let labels = labels(identity);
        // A series from the beginning: an identity without a token is the one to be seen.
        drop(self.ends.get_or_create(&labels));
        Handles {
            metrics: self.clone(),
            labels,
        }
    }
}

fn labels(identity: &Identity) -> IdentityLabels {
    IdentityLabels {
        r#type: identity.principal.kind(),
        client_id: identity
            .principal
            .client_id()
            .unwrap_or_default()
            .to_owned(),
        scope: identity.scope.to_string(),
    }
}

/// The metrics of one identity.
#[derive(Clone, Debug)]
pub(crate) struct Handles {
    metrics: Metrics,
    labels: IdentityLabels,
}

impl Handles {
    pub(crate) fn fetched(&self, ends_unix_s: f64) {
        self.count("ok");
        self.metrics
            .ends
            .get_or_create(&self.labels)
            .set(ends_unix_s);
    }

    pub(crate) fn failed(&self, failure: &NoToken) {
        self.count(failure.label());
    }

    /// No table uses the identity any more.
    pub(crate) fn retire(&self) {
        self.metrics.ends.remove(&self.labels);
    }

    /// Whether an identity has the same series: it differs in what no label shows.
    pub(crate) fn are_of(&self, identity: &Identity) -> bool {
        self.labels == labels(identity)
    }

    fn count(&self, outcome: &'static str) {
        let labels = FetchLabels {
            r#type: self.labels.r#type,
            client_id: self.labels.client_id.clone(),
            scope: self.labels.scope.clone(),
            outcome,
        };
        self.metrics.fetches.get_or_create(&labels).inc();
    }
}

/// The metrics of an issuer's keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyFetches {
    metrics: Metrics,
    labels: IssuerLabels,
}

impl KeyFetches {
    pub(crate) fn ended(&self, is_good: bool) {
        let labels = OutcomeLabels {
            issuer: self.labels.issuer.clone(),
            outcome: if is_good { "ok" } else { "failed" },
        };
        self.metrics.key_fetches.get_or_create(&labels).inc();
        if is_good {
            let now = clock::unix_micros(clock::instant()).unsigned_abs();
            let fetched = self.metrics.keys_fetched.get_or_create(&self.labels);
            fetched.set(Duration::from_micros(now).as_secs_f64());
        }
    }
}

/// The metrics of an issuer's tokens.
#[derive(Clone, Debug)]
pub(crate) struct TokenOutcomes {
    metrics: Metrics,
    issuer: String,
}

impl TokenOutcomes {
    /// Counts a judgement: the reason against it, in a word; `None` = good.
    pub(crate) fn count(&self, failure: Option<&'static str>) {
        let labels = OutcomeLabels {
            issuer: self.issuer.clone(),
            outcome: failure.unwrap_or("ok"),
        };
        self.metrics.tokens.get_or_create(&labels).inc();
    }
}
