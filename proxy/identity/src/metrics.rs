//! What is counted about tokens.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
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

/// All metrics of identities.
#[derive(Clone, Debug)]
pub struct Metrics {
    fetches: Family<FetchLabels, Counter>,
    ends: Family<IdentityLabels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
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
        metrics
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
