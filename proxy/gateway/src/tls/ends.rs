//! When certificates end, as a metric: an alert sees one that is not renewed days before clients do.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    certificate: String,
}

/// The ends of the certificates in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Family<Labels, Gauge>);

// === impl Ends ===

impl Ends {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let ends = Self::default();
        registry.register(
            "tls_certificate_end_timestamp_seconds",
            "When a certificate for HTTPS ends, in seconds since the Unix epoch, by its folder; default is that \
             of --tls-cert",
            ends.0.clone(),
        );
        ends
    }

    /// A certificate is in use.
    pub(crate) fn set(&self, folder: &str, end_s: i64) {
        self.0.get_or_create(&labels(folder)).set(end_s);
    }

    pub(super) fn forget(&self, folder: &str) {
        self.0.remove(&labels(folder));
    }
}

fn labels(folder: &str) -> Labels {
    let certificate = if folder.is_empty() { "default" } else { folder };
    Labels {
        certificate: certificate.to_owned(),
    }
}
