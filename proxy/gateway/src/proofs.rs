//! Which credentials that the gateway passes on a backend has accepted, and what they claim.
//!
//! Until then a caller is its credential, and holds little of what it shares with others
//! ([`proxy_ledger::Subject::unproved`]). Kept in memory, for an hour, and for a bounded number of
//! credentials: the next accepted call proves one again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proxy_api::Claims;
use proxy_core::auth::{Caller, KeyDigest};
use proxy_core::names::{Moment, ObjectName};
use smallvec::SmallVec;

#[cfg(test)]
mod tests;

/// Credentials in each of two halves. One takes about 200 bytes.
const HALF: usize = 4_096;
/// How long a proof counts, unless the token ends before.
const KEPT_MS: u64 = 60 * 60 * 1_000;

/// The proofs of all cores. When the younger half is full, the older one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    young: Half,
    old: Half,
}

type Half = HashMap<KeyDigest, SmallVec<[Proof; 1]>, foldhash::fast::RandomState>;

/// A backend has accepted a credential.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    backend: ObjectName,
    /// Who the credential is of, if the backend is one that knows.
    caller: Option<Arc<Caller>>,
    until_ms: u64,
}

/// A caller whose credential goes to the backend.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) digest: KeyDigest,
    proof: Option<Proof>,
}

// === impl Stranger ===

impl Stranger {
    pub(crate) const fn new(digest: KeyDigest, proof: Option<Proof>) -> Self {
        Self { digest, proof }
    }

    /// The caller as it is known beyond its credential.
    pub(crate) fn claimed(&self) -> Option<&Arc<Caller>> {
        self.proof.as_ref()?.caller.as_ref()
    }

    /// Its proof need not be made again.
    pub(crate) fn is_settled(&self, now: Moment) -> bool {
        self.proof.as_ref().is_some_and(|proof| !proof.is_aged(now))
    }

    pub(crate) const fn is_unproved(&self) -> bool {
        self.proof.is_none()
    }
}

// === impl Proof ===

impl Proof {
    /// It is old enough to be made again.
    const fn is_aged(&self, now: Moment) -> bool {
        now.monotonic_ms.saturating_add(KEPT_MS / 2) >= self.until_ms
    }
}

// === impl Proofs ===

impl Proofs {
    /// The proof of a credential by one of these backends, if it still counts.
    pub(crate) fn find(
        &self,
        digest: &KeyDigest,
        is_asked: impl Fn(&ObjectName) -> bool,
        now: Moment,
    ) -> Option<Proof> {
        let halves = &*self.0.lock();
        let of_both = [&halves.young, &halves.old];
        let mut proofs = of_both
            .into_iter()
            .filter_map(|half| half.get(digest))
            .flatten();
        let counts = |proof: &&Proof| proof.until_ms > now.monotonic_ms && is_asked(&proof.backend);
        proofs.find(counts).cloned()
    }

    /// Takes note that `backend` has accepted a credential, and what this proves. Returns who it is of.
    pub(crate) fn accept(
        &self,
        digest: KeyDigest,
        backend: &ObjectName,
        claims: Option<Claims>,
        now: Moment,
    ) -> Option<Arc<Caller>> {
        let expires = claims.as_ref().and_then(|claims| claims.expires);
        let caller = claims.map(|claims| Caller::claimed(&claims.tenant, &claims.principal));
        let caller = caller.map(Arc::new);
        let left_ms = expires.map(|expires| {
            let left = expires.saturating_mul(1_000).saturating_sub(now.unix_ms);
            u64::try_from(left).unwrap_or(0)
        });
        let kept_ms = left_ms.unwrap_or(KEPT_MS).min(KEPT_MS);
        let proof = Proof {
            backend: backend.clone(),
            caller: caller.clone(),
            until_ms: now.monotonic_ms.saturating_add(kept_ms),
        };
        let mut halves = self.0.lock();
        if halves.young.len() >= HALF {
            halves.old = std::mem::take(&mut halves.young);
        }
        let proofs = halves.young.entry(digest).or_default();
        proofs.retain(|other| other.backend != proof.backend && other.until_ms > now.monotonic_ms);
        proofs.push(proof);
        caller
    }
}
