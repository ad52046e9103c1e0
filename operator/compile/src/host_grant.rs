//! Grants of hosts: where a namespace may serve callers without a key of its own, also those with a token.
//! Anybody could claim these callers, so who was first must not decide.

use std::fmt;
use std::str::FromStr;

use proxy_core::route::HostPattern;

use crate::bounds::{is_hostname, is_label};

#[cfg(test)]
mod tests;

/// Lets routes of some namespaces serve such callers on some hosts. Written `PATTERN=NAMESPACE[,NAMESPACE]`;
/// the pattern is a host, `*.` and a host, or `*` for every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGrant {
    /// `None` means every host.
    hosts: Option<HostPattern>,
    namespaces: Vec<String>,
}

/// Why a text is no [`HostGrant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostGrant {
    /// There is no `=`.
    #[error("write PATTERN=NAMESPACE, for example ai.example.com=team-a")]
    Form,
    /// What comes before it is no host.
    #[error("before '=' write a host like ai.example.com or *.example.com, or * for every host")]
    Host,
    /// What comes after it is no list of namespaces.
    #[error("after '=' write names of namespaces, separated by ','")]
    Namespace,
}

// === impl HostGrant ===

impl FromStr for HostGrant {
    type Err = InvalidHostGrant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (hosts, namespaces) = text.split_once('=').ok_or(InvalidHostGrant::Form)?;
        let hosts = hosts.trim().to_ascii_lowercase();
        let hosts = if hosts == "*" {
            None
        } else {
            let pattern = HostPattern::parse(&hosts).filter(|_| is_hostname(&hosts));
            Some(pattern.ok_or(InvalidHostGrant::Host)?)
        };
        let namespaces: Vec<String> = namespaces.split(',').map(|one| one.trim().into()).collect();
        if !namespaces.iter().all(|one| is_label(one)) {
            return Err(InvalidHostGrant::Namespace);
        }
        Ok(Self { hosts, namespaces })
    }
}

impl fmt::Display for HostGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespaces = self.namespaces.join(",");
        match &self.hosts {
            Some(hosts) => write!(f, "{hosts}={namespaces}"),
            None => write!(f, "*={namespaces}"),
        }
    }
}

impl HostGrant {
    /// Whether routes of `namespace` may claim all of `hosts`; `None` means every host.
    pub(crate) fn covers(&self, hosts: Option<&HostPattern>, namespace: &str) -> bool {
        let mut namespaces = self.namespaces.iter();
        covers(self.hosts.as_ref(), hosts) && namespaces.any(|one| one == namespace)
    }
}

/// Whether all of `hosts` are among the granted ones; `None` means every host.
pub(crate) fn covers(granted: Option<&HostPattern>, hosts: Option<&HostPattern>) -> bool {
    match (granted, hosts) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(granted), Some(HostPattern::Exact(host))) => granted.matches(host),
        (Some(HostPattern::Wildcard(granted)), Some(HostPattern::Wildcard(suffix))) => {
            suffix.ends_with(&**granted)
        }
        (Some(HostPattern::Exact(_)), Some(HostPattern::Wildcard(_))) => false,
    }
}
