//! The settings of the controller.

use std::collections::BTreeSet;

use operator_compile::{Day, HostGrant, IdentityGrants, Secrets, Settings, Tenants};

use proxy_core::reach::Reach;
use proxy_core::route::HostPattern;

use crate::lease::Timing;

/// The field manager of everything that the operator applies.
pub(crate) const FIELD_MANAGER: &str = "tundish-operator";

/// The part of the cluster that a watch covers: one namespace, or all.
pub(crate) type Scope = Option<String>;

/// The settings of the controller.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespace of the installation: of its lease, its CA, and quotas for the whole gateway.
    pub own_namespace: String,
    /// Namespaces to watch besides the own one, whose quotas hold for all; empty means every
    /// namespace.
    pub watch_namespaces: Vec<String>,
    /// Who may serve callers without a key on which host, if several namespaces are watched.
    pub host_grants: Vec<HostGrant>,
    /// Which namespaces may use the identities of the gateway and its machine, if several are watched.
    pub identity_grants: IdentityGrants,
    /// Which addresses backends may have.
    pub reach: Reach,
    /// Which hosts backends may have; empty means every one.
    pub backend_hosts: Vec<HostPattern>,
    /// The Gateways that are served; `None` if none are.
    pub gateways: Option<GatewayConfig>,
    /// The name of this replica in the lease; different for each.
    pub identity: String,
    /// The times of the election.
    pub lease: Timing,
    /// The labels of the proxies' pods in the own namespace, as a selector; without it a proxy that falls
    /// silent is taken for gone.
    pub proxy_pods: Option<String>,
    /// The existing ConfigMap for checkpoints of counters.
    pub checkpoint: String,
    /// What the existing Secrets for snapshots are called, but for `-` and their number; without it no
    /// snapshot is written.
    pub snapshot: Option<String>,
}

/// Which Gateways an installation serves, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Their class.
    pub class: String,
    /// Namespaces besides the own one whose Gateways are served.
    pub namespaces: Vec<String>,
    /// The Secrets in the own namespace with the proxies' certificates; without any they serve plain HTTP.
    pub certificates: Vec<String>,
    /// The Service of the proxies in the own namespace: its ports and addresses are those of the Gateways.
    pub service: Option<String>,
}

// === impl Config ===

impl Config {
    /// What the compiler must know of the installation before it has seen the cluster.
    pub(crate) fn settings(&self) -> Settings {
        let watched: BTreeSet<&String> = self.watch_namespaces.iter().collect();
        let others = watched.iter().filter(|one| ***one != self.own_namespace);
        Settings {
            own_namespace: self.own_namespace.clone(),
            grants_served: false,
            tenants: if watched.is_empty() || others.count() > 1 {
                Tenants::Many
            } else {
                Tenants::One
            },
            host_grants: self.host_grants.clone(),
            identity_grants: self.identity_grants.clone(),
            secrets: Secrets::All,
            reach: self.reach.clone(),
            backend_hosts: self.backend_hosts.clone(),
            gateways: None,
            // The compiler sets it.
            today: Day::at(0),
        }
    }

    /// Every watched scope once. The own namespace is always watched: its quotas are the platform's
    /// ceiling.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        if self.watch_namespaces.is_empty() {
            return vec![None];
        }
        let own = [&self.own_namespace];
        let namespaces: BTreeSet<&String> = self.watch_namespaces.iter().chain(own).collect();
        namespaces.into_iter().cloned().map(Some).collect()
    }
}

#[cfg(test)]
mod tests;
