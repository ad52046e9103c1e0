//! What compiling must know besides the objects.

use proxy_core::reach::Reach;
use proxy_core::route::HostPattern;

use crate::bounds::is_hostname;
use crate::day::Day;
use crate::gateway::Gateways;
use crate::host_grant::HostGrant;

/// The facts about an installation that no object declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The installation's namespace: AIQuotas without `targetRefs` in it cover the whole gateway.
    pub own_namespace: String,
    /// Whether the cluster serves ReferenceGrants; without them no reference crosses namespaces.
    pub grants_served: bool,
    /// How many namespaces could claim each other's callers.
    pub tenants: Tenants,
    /// Who may serve callers without a key, also those with a token, on which host, if several could.
    pub host_grants: Vec<HostGrant>,
    /// Which namespaces may use the identities of the gateway and its machine, if several could.
    pub identity_grants: IdentityGrants,
    /// Whether a Secret that is not there does not exist.
    pub secrets: Secrets,
    /// Which addresses backends may have.
    pub reach: Reach,
    /// Which hosts backends may have; empty = every one.
    pub backend_hosts: Vec<HostPattern>,
    /// The Gateways of the cluster; `None` where none are followed.
    pub gateways: Option<Gateways>,
    /// The present day, for what warns ahead.
    pub today: Day,
}

/// Which namespaces may use the identities of the gateway and its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityGrants {
    /// Every namespace.
    All,
    /// These, and the installation's own.
    Namespaces(Vec<String>),
}

/// Which Secrets are in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Every one of the namespaces that have routes.
    All,
    /// Others may be made elsewhere.
    Some,
}

/// How many namespaces have routes, the installation's own not counted: what is written there is the
/// platform's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// At most one, so no grant of a host is needed.
    One,
    /// Any number.
    Many,
    /// As many as the AIRoutes say.
    OfRoutes,
}

/// A text is no host that backends may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a host like contoso.services.ai.azure.com or *.services.ai.azure.com")]
pub struct InvalidBackendHost;

/// Reads a host, or `*.` and a host, that backends may have.
///
/// # Errors
/// It is neither.
pub fn backend_host(text: &str) -> Result<HostPattern, InvalidBackendHost> {
    let text = text.trim().to_ascii_lowercase();
    let pattern = HostPattern::parse(&text).filter(|_| is_hostname(&text));
    pattern.ok_or(InvalidBackendHost)
}

// === impl Settings ===

impl Settings {
    /// Whether backends may have this host, in lower case.
    pub(crate) fn allows_host(&self, host: &str) -> bool {
        let mut allowed = self.backend_hosts.iter();
        self.backend_hosts.is_empty() || allowed.any(|pattern| pattern.matches(host))
    }

    /// Whether backends of a namespace may show the gateway's own identity.
    pub(crate) fn grants_identity(&self, namespace: &str) -> bool {
        namespace == self.own_namespace
            || self.tenants == Tenants::One
            || match &self.identity_grants {
                IdentityGrants::All => true,
                IdentityGrants::Namespaces(granted) => granted.iter().any(|one| one == namespace),
            }
    }
}
