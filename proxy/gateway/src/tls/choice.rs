//! Which certificate a client is shown: by the name that it asks for.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The certificates in use.
#[derive(Debug)]
pub(super) struct Choice(ArcSwap<ByName>);

#[derive(Debug, Default)]
struct ByName {
    /// The best first. A name that begins with a dot is a wildcard's.
    certificates: HashMap<String, Vec<Arc<CertifiedKey>>, foldhash::fast::RandomState>,
    /// For clients that ask for another name, or for none.
    default: Option<Arc<CertifiedKey>>,
}

// === impl Choice ===

impl Choice {
    /// The first pair is the default.
    pub(super) fn new<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Self {
        Self(ArcSwap::from_pointee(ByName::of(pairs)))
    }

    /// Takes these for handshakes from now on. Connections stay.
    pub(super) fn renew<'a>(&self, pairs: impl Iterator<Item = &'a Pair>) {
        self.0.store(Arc::new(ByName::of(pairs)));
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by_name = self.0.load();
        let named = hello.server_name().and_then(|name| {
            let fits = |key: &&Arc<CertifiedKey>| {
                let schemes = hello.signature_schemes();
                key.key.choose_scheme(schemes).is_some()
            };
            let known = by_name.of_name(name)?;
            // A host may have a key of each kind.
            known.iter().find(fits).or_else(|| known.first())
        });
        named.or(by_name.default.as_ref()).cloned()
    }
}

// === impl ByName ===

impl ByName {
    fn of<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Self {
        let mut pairs: Vec<&Pair> = pairs.collect();
        let default = pairs.first().map(|pair| Arc::clone(&pair.key));
        // Of two for one name the one that ends later is newer.
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.ends_s));
        let mut certificates: HashMap<String, Vec<_>, _> = HashMap::default();
        for pair in pairs {
            for name in &pair.names {
                let name = name.strip_prefix('*').unwrap_or(name);
                let known = certificates.entry(name.to_owned()).or_default();
                known.push(Arc::clone(&pair.key));
            }
        }
        Self {
            certificates,
            default,
        }
    }

    /// Those for exactly this name, else those for its wildcard, which stands for one label.
    fn of_name(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let exact = self.certificates.get(name);
        let wildcard = || self.certificates.get(name.get(name.find('.')?..)?);
        exact.or_else(wildcard).map(Vec::as_slice)
    }
}
