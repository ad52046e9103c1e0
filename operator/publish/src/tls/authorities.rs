//! The authorities of an installation, and their succession.

use std::fmt;

use super::authority::{AUTHORITY_MS, Authority, DAY_MS, TlsError, parse};

/// Time of an authority in the bundle before it signs: enough for every proxy to read it, also for
/// one whose volume is refreshed late.
pub const ANNOUNCE_MS: i64 = 30 * DAY_MS;

/// A successor is made a year before the end: its announcement takes a month.
const SUCCEED_MS: i64 = 365 * DAY_MS;

/// The authority that signs, its successor, and the former ones.
#[derive(Debug)]
pub struct Authorities {
    signing: Authority,
    next: Option<Authority>,
    /// Certificates of former authorities that are still valid, each with its end.
    former: Vec<(String, i64)>,
}

/// [`Authorities`] as they are stored, in PEM. `Debug` shows nothing of it: it holds private keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoredAuthorities {
    /// Certificate of the one that signs; public.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// Certificate and key of the successor.
    pub next: Option<(String, String)>,
    /// Certificates of former ones that proxies may still meet, one after the other.
    pub former: String,
}

// === impl StoredAuthorities ===

impl StoredAuthorities {
    /// The certificates that proxies are to trust.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|(certificate, _)| certificate);
        let parts = [Some(&self.certificate), next, Some(&self.former)];
        parts.into_iter().flatten().map(String::as_str).collect()
    }

    /// Whether neither comes from the other by a step of the rotation: somebody made another CA.
    #[must_use]
    pub fn is_foreign_to(&self, other: &Self) -> bool {
        !self.bundle().contains(other.certificate.trim())
            && !other.bundle().contains(self.certificate.trim())
    }

    /// This one, and proxies trust the certificates of `other` too: some operator may sign with it still.
    #[must_use]
    pub fn trusting(&self, other: &Self) -> Self {
        let ours = self.bundle();
        let theirs = certificates(&other.bundle());
        let added = theirs.iter().filter(|one| !ours.contains(one.trim()));
        let added: String = added.map(String::as_str).collect();
        Self {
            former: format!("{}{added}", self.former),
            ..self.clone()
        }
    }

    /// The next step of the rotation, if one is due at `now_ms`: store the result and publish its
    /// bundle **before** signing with it.
    ///
    /// # Errors
    /// The PEM cannot be parsed, or a key could not be made.
    pub fn advance(&self, now_ms: i64) -> Result<Option<Self>, TlsError> {
        let mut authorities = Authorities::load(self)?;
        let advanced = authorities.advance(now_ms)?;
        Ok(advanced.then(|| authorities.store()))
    }
}

impl fmt::Debug for StoredAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAuthorities").finish_non_exhaustive()
    }
}

// === impl Authorities ===

impl Authorities {
    /// Makes a first one.
    ///
    /// # Errors
    /// Its key could not be made.
    pub fn generate(now_ms: i64) -> Result<Self, TlsError> {
        Ok(Self {
            signing: Authority::generate(now_ms)?,
            next: None,
            former: Vec::new(),
        })
    }

    /// Reads the form that [`Authorities::store`] gives.
    ///
    /// # Errors
    /// Some PEM cannot be parsed.
    pub fn load(stored: &StoredAuthorities) -> Result<Self, TlsError> {
        let next = stored.next.as_ref();
        let next = next.map(|(certificate, key)| Authority::from_pem(certificate, key));
        let mut former = Vec::new();
        for pem in certificates(&stored.former) {
            let ends_ms = parse(&pem)?.ends_ms;
            former.push((pem, ends_ms));
        }
        Ok(Self {
            signing: Authority::from_pem(&stored.certificate, &stored.key)?,
            next: next.transpose()?,
            former,
        })
    }

    /// The form to store.
    #[must_use]
    pub fn store(&self) -> StoredAuthorities {
        let next = self.next.as_ref();
        StoredAuthorities {
            certificate: self.signing.certificate_pem().to_owned(),
            key: self.signing.key_pem(),
            next: next.map(|next| (next.certificate_pem().to_owned(), next.key_pem())),
            former: self.former.iter().map(|(pem, _)| pem.as_str()).collect(),
        }
    }

    /// A copy of the one that signs.
    ///
    /// # Errors
    /// Its own PEM could not be parsed.
    pub fn signing(&self) -> Result<Authority, TlsError> {
        Authority::from_pem(self.signing.certificate_pem(), &self.signing.key_pem())
    }

    /// Takes the step that is due at `now_ms`, if any, and returns whether one was.
    ///
    /// # Errors
    /// A key could not be made; nothing has changed.
    fn advance(&mut self, now_ms: i64) -> Result<bool, TlsError> {
        let left = self.signing.ends_ms().saturating_sub(now_ms);
        let count = self.former.len();
        self.former.retain(|(_, ends_ms)| now_ms < *ends_ms);
        let mut changed = count != self.former.len();
        match self.next.take() {
            None if left < SUCCEED_MS => {
                self.next = Some(Authority::generate(now_ms)?);
                changed = true;
            }
            Some(next) if announced(&next, now_ms) || left <= 0 => {
                let ended = std::mem::replace(&mut self.signing, next);
                self.former.push((ended.certificate, ended.ends_ms));
                changed = true;
            }
            waiting => self.next = waiting,
        }
        Ok(changed)
    }
}

/// Whether `next` has been in the bundle long enough to sign.
const fn announced(next: &Authority, now_ms: i64) -> bool {
    let made_ms = next.ends_ms().saturating_sub(AUTHORITY_MS);
    now_ms.saturating_sub(made_ms) >= ANNOUNCE_MS
}

/// Splits a bundle into its certificates, each with its armour.
fn certificates(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    bundle
        .split_inclusive(END)
        .filter(|part| part.contains(END))
        .map(|part| format!("{}\n", part.trim()))
        .collect()
}
