//! What compiling must know besides the objects.

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
    /// Who may serve callers without a key on which host, if several could.
    pub host_grants: Vec<HostGrant>,
    /// Which namespaces may use the identities of the gateway and its machine, if several could.
    pub identity_grants: IdentityGrants,
    /// Whether a Secret that is not there does not exist.
    pub secrets: Secrets,
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

// === impl Settings ===

impl Settings {
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
