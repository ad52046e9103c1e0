//! Identities of the gateway at Microsoft Entra.

use std::fmt;
use std::sync::Arc;

use crate::names::Secret;

/// Who the gateway is at Microsoft Entra, and what its token is for. Equal ones share a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Who it is.
    pub principal: Principal,
    /// `<resource>/.default`.
    pub scope: Arc<str>,
}

/// Who the gateway is at Microsoft Entra.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The federated identity of the proxy's `ServiceAccount`. What is not declared comes from the
    /// proxy's environment.
    Workload {
        /// The client id.
        client_id: Option<Arc<str>>,
        /// The tenant.
        tenant_id: Option<Arc<str>>,
    },
    /// An identity of the machine.
    Managed {
        /// The client id; `None` = the machine's own identity.
        client_id: Option<Arc<str>>,
    },
    /// An application with a secret.
    Application {
        /// The tenant.
        tenant_id: Arc<str>,
        /// The client id.
        client_id: Arc<str>,
        /// Its secret.
        secret: Secret,
    },
}

/// The resource for which a scope asks: the scope without `/.default`; `None` if it names none.
#[must_use]
pub fn resource_of(scope: &str) -> Option<&str> {
    let resource = scope.strip_suffix("/.default")?;
    let is_one = !resource.is_empty() && resource.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then_some(resource)
}

impl Principal {
    /// Its kind, by the word of the `AIBackend`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Workload { .. } => "WorkloadIdentity",
            Self::Managed { .. } => "ManagedIdentity",
            Self::Application { .. } => "ClientSecret",
        }
    }

    /// The client id, if one is declared.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::Workload { client_id, .. } | Self::Managed { client_id } => client_id.as_deref(),
            Self::Application { client_id, .. } => Some(client_id),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.principal.kind();
        match self.principal.client_id() {
            Some(client_id) => write!(f, "{kind} {client_id} for {}", self.scope),
            None => write!(f, "{kind} for {}", self.scope),
        }
    }
}
