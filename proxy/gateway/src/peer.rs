//! Servers that backends are at, as they are connected to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use proxy_admin::host::Host;
use proxy_core::table::Certificates;

use crate::trust::{Roots, Trust};

/// The identity of a peer. Connections are shared between backends that are equal in all of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerName {
    pub(crate) scheme: Scheme,
    /// Without a user.
    pub(crate) authority: Authority,
    pub(crate) ca: Option<Certificates>,
    pub(crate) server_name: Option<Arc<str>>,
    /// Any certificate is taken for its own.
    pub(crate) skips_verification: bool,
    pub(crate) connect_timeout: Duration,
}

/// A server, as it is connected to. Its number finds its connections, without a look at the certificates.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) number: u64,
    pub(crate) name: PeerName,
    /// Where it is. One for all cores, so that its name is looked up once.
    pub(crate) host: Host,
    /// One for all cores, so that a session can be resumed by another core.
    trust: OnceLock<Result<Trust, String>>,
}

// === impl Peer ===

impl Peer {
    pub(crate) fn new(name: PeerName) -> Self {
        let host = Host::new(name.authority.host());
        Self::at(host, name)
    }

    /// The same, where a host is known to be.
    pub(crate) fn at(host: Host, name: PeerName) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            name,
            host,
            trust: OnceLock::new(),
        }
    }

    /// How its certificate is checked; `None` if it is spoken to without TLS.
    pub(crate) fn trust(&self) -> Result<Option<Trust>, String> {
        let name = &self.name;
        if name.scheme == Scheme::HTTP {
            return Ok(None);
        }
        if name.scheme != Scheme::HTTPS {
            return Err(format!("the scheme {} is not supported", name.scheme));
        }
        let made = self.trust.get_or_init(|| {
            // An IPv6 address is in brackets.
            let host = name.authority.host();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let roots = match &name.ca {
                _ if name.skips_verification => Roots::Any,
                Some(certificates) => Roots::Own(certificates),
                None => Roots::Public,
            };
            Trust::new(name.server_name.as_deref().unwrap_or(host), roots)
        });
        made.clone().map(Some)
    }
}
