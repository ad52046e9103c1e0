//! Where backends and issuers may be: which addresses an installation lets its tenants name.
//!
//! Tenants write the URLs, and the gateway connects. Without a bound they could make it ask the machine's
//! metadata service, a port of its own pod, or a Service that a network policy keeps from them. Private
//! addresses stay open, since private link uses them. Names are judged where they are written, as far as
//! they tell; addresses when they are connected to, each time.
//!
//! Words: a *zone* is a kind of address that is closed unless the installation opens it; an *allowance*
//! opens one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::route::HostPattern;

mod network;
#[cfg(test)]
mod tests;
mod zone;

pub use network::{InvalidNetwork, Network};
pub use zone::Zone;

/// The suffixes of names that a cluster's DNS answers.
const CLUSTER_SUFFIXES: [&str; 2] = [".svc", ".cluster.local"];
/// The names of metadata services.
const METADATA_NAMES: [&str; 2] = ["metadata.google.internal", "metadata.goog"];

/// Where the backends and issuers of an installation may be. The default: at every address outside of the
/// zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    allowances: Vec<Allowance>,
    /// Of Services, pods and nodes.
    cluster: Vec<Network>,
}

/// Opens a zone, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// All zones. Not to be written: for what the installation itself names.
    Everything,
    /// This machine or pod.
    Loopback,
    /// All of the cluster.
    Cluster,
    /// These addresses, whatever zone they are in.
    Network(Network),
    /// These names, if they are in the cluster.
    Host(HostPattern),
}

/// Why a text is no [`Allowance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAllowance {
    /// It is meant as a network.
    #[error(transparent)]
    Network(#[from] InvalidNetwork),
    /// It is nothing of these.
    #[error(
        "write loopback, cluster, an address or network such as 10.0.0.0/16, or a name of the cluster such as \
         vllm.models.svc or *.models.svc"
    )]
    Form,
}

/// A host or address that is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} is {zone}, where this installation allows no backends")]
pub struct OutOfReach {
    /// The name or address.
    pub place: String,
    /// The zone that it is in.
    pub zone: Zone,
}

// === impl Allowance ===

impl FromStr for Allowance {
    type Err = InvalidAllowance;

    fn from_str(text: &str) -> Result<Self, InvalidAllowance> {
        let text = text.trim();
        match text {
            "loopback" => return Ok(Self::Loopback),
            "cluster" => return Ok(Self::Cluster),
            _ => {}
        }
        if text.contains('/') || text.parse::<IpAddr>().is_ok() {
            return Ok(Self::Network(text.parse()?));
        }
        let is_name = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.*".contains(&byte));
        let pattern = HostPattern::parse(text).filter(|_| is_name && text.contains('.'));
        pattern.map(Self::Host).ok_or(InvalidAllowance::Form)
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Loopback => f.write_str("loopback"),
            Self::Cluster => f.write_str("cluster"),
            Self::Network(network) => network.fmt(f),
            Self::Host(pattern) => pattern.fmt(f),
        }
    }
}

impl Allowance {
    /// Whether it opens `zone` for `host`, of which `address` is known.
    fn opens(&self, zone: Zone, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Everything => true,
            Self::Loopback => zone == Zone::Loopback,
            Self::Cluster => zone == Zone::Cluster,
            Self::Network(network) => address.is_some_and(|address| network.contains(address)),
            Self::Host(pattern) => zone == Zone::Cluster && pattern.matches(host),
        }
    }
}

// === impl Reach ===

impl Reach {
    /// Opens what `allowances` say. Addresses in `cluster` are in the zone of that name.
    #[must_use]
    pub const fn new(allowances: Vec<Allowance>, cluster: Vec<Network>) -> Self {
        Self {
            allowances,
            cluster,
        }
    }

    /// As without a cluster: other programs of the machine, and names of its own network, are open.
    #[must_use]
    pub fn local() -> Self {
        Self {
            allowances: vec![Allowance::Loopback, Allowance::Cluster],
            cluster: Vec::new(),
        }
    }

    /// Every address: for names that the installation itself writes.
    #[must_use]
    pub fn everywhere() -> Self {
        Self {
            allowances: vec![Allowance::Everything],
            cluster: Vec::new(),
        }
    }

    /// Opens more.
    #[must_use]
    pub fn with(mut self, allowances: impl IntoIterator<Item = Allowance>) -> Self {
        self.allowances.extend(allowances);
        self
    }

    /// Judges a host as it is written: an address, or a name that tells its zone. Others are open until
    /// their addresses are known.
    ///
    /// # Errors
    /// It is in a zone that is closed.
    pub fn judge_host(&self, host: &str) -> Result<(), OutOfReach> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return self.judge(host, address);
        }
        let name = plain(host);
        match Zone::of_name(&name) {
            Some(zone) if !self.opens(zone, &name, None) => Err(OutOfReach {
                place: host.to_owned(),
                zone,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Judges an address that `host` has. IPv4 addresses within IPv6 addresses are judged too, since a
    /// translator on the way would connect to them.
    ///
    /// # Errors
    /// It is in a zone that is closed.
    pub fn judge(&self, host: &str, address: IpAddr) -> Result<(), OutOfReach> {
        let name = plain(host);
        for address in zone::forms(address) {
            let zone = Zone::of(address).or_else(|| {
                let is_in = |network: &Network| network.contains(address);
                self.cluster.iter().any(is_in).then_some(Zone::Cluster)
            });
            if let Some(zone) = zone
                && !self.opens(zone, &name, Some(address))
            {
                return Err(OutOfReach {
                    place: address.to_string(),
                    zone,
                });
            }
        }
        Ok(())
    }

    fn opens(&self, zone: Zone, name: &str, address: Option<IpAddr>) -> bool {
        let mut allowances = self.allowances.iter();
        allowances.any(|one| one.opens(zone, name, address))
    }
}

/// A name in lower case, without the dot at its end.
fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

// === impl Zone ===

impl Zone {
    /// The zone that a name tells.
    fn of_name(name: &str) -> Option<Self> {
        if name == "localhost" || name.ends_with(".localhost") {
            return Some(Self::Loopback);
        }
        if METADATA_NAMES.contains(&name) {
            return Some(Self::Metadata);
        }
        // A pod completes a name of one label by its own namespace.
        let is_cluster =
            !name.contains('.') || CLUSTER_SUFFIXES.iter().any(|one| name.ends_with(one));
        is_cluster.then_some(Self::Cluster)
    }
}
