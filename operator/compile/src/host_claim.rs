//! Claims of hosts: whether a route may serve callers that every namespace could claim, on all of its hosts.

use proxy_core::route::HostPattern;

use crate::attachment::Attachment;
use crate::host_grant::covers;
use crate::index::Index;
use crate::listener::Listeners;
use crate::settings::{Settings, Tenants};

/// Which routes may serve callers that every namespace could claim: those without a key, and those with
/// the token of an issuer.
pub(crate) struct HostClaims<'a> {
    settings: &'a Settings,
    /// The listeners of Gateways, if any are followed.
    pub(crate) listeners: Option<&'a Listeners<'a>>,
    /// Some namespace could take the callers of another.
    needed: bool,
}

// === impl HostClaims ===

impl<'a> HostClaims<'a> {
    /// `needed`: see [`is_needed`].
    pub(crate) const fn new(
        settings: &'a Settings,
        listeners: Option<&'a Listeners<'a>>,
        needed: bool,
    ) -> Self {
        Self {
            settings,
            listeners,
            needed,
        }
    }

    /// The first host on which a route of `namespace` may not serve such callers. Whoever writes to the
    /// installation's own namespace could write the grants, too.
    pub(crate) fn missing(&self, attachment: &Attachment, namespace: &str) -> Option<String> {
        let hosts = &attachment.hostnames;
        if !self.needed || namespace == self.settings.own_namespace {
            return None;
        }
        let granted = |host: Option<&HostPattern>| {
            let mut grants = self.settings.host_grants.iter();
            let mut listeners = attachment.granted.iter();
            grants.any(|grant| grant.covers(host, namespace))
                || listeners.any(|listener| covers(listener.as_ref(), host))
        };
        if hosts.is_empty() {
            return (!granted(None)).then(|| "*".to_owned());
        }
        let missing = hosts.iter().find(|host| !granted(Some(host)));
        missing.map(ToString::to_string)
    }
}

/// Whether some namespace could take the callers of another.
pub(crate) fn is_needed(index: &Index, settings: &Settings) -> bool {
    let of_routes = || {
        let all = index.routes.keys().map(|route| route.namespace());
        let mut tenants = all.filter(|one| *one != settings.own_namespace);
        let first = tenants.next();
        tenants.any(|one| Some(one) != first)
    };
    match settings.tenants {
        Tenants::One => false,
        Tenants::Many => true,
        Tenants::OfRoutes => of_routes(),
    }
}
