//! Which authorities there are, and when one follows another.

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{AUTHORITY_MS, Authority, DAY_MS, TlsError};

/// How long an authority is in the bundle before it signs: long enough that every proxy has read
/// it, also one whose volume is refreshed late.
pub const ANNOUNCE_MS: i64 = 30 * DAY_MS;

/// A successor is made a year before the end.
const SUCCEED_MS: i64 = 365 * DAY_MS;

/// The authority that signs, the one that follows it, and those that came before.
#[derive(Debug)]
pub struct Authorities {
    signing: Authority,
    next: Option<Authority>,
    /// Certificates of former authorities that have not ended yet, with their ends.
    former: Vec<(String, i64)>,
}

/// [`Authorities`] as they are stored, in PEM. `Debug` is left out: it holds private keys.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_debug_implementations, reason = "it holds private keys")]
pub struct Stored {
    /// Certificate of the one that signs.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// Certificate and key of the one that follows.
    pub next: Option<(String, String)>,
    /// Certificates of former ones, one after the other.
    pub former: String,
}

/// What of a CA certificate matters here.
pub(super) struct Read {
    pub(super) ends_ms: i64,
    public_key: Vec<u8>,
}

impl Read {
    pub(super) fn signs_with(&self, key: &KeyPair) -> bool {
        self.public_key == key.subject_public_key_info()
    }
}

/// Reads the one certificate in `pem`.
pub(super) fn read(pem: &str) -> Result<Read, TlsError> {
    let wrong = |error: String| TlsError::Authority(error);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| wrong(e.to_string()))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|e| wrong(e.to_string()))?;
    let ends_s = certificate.validity().not_after.timestamp();
    Ok(Read {
        ends_ms: ends_s.saturating_mul(1_000),
        public_key: certificate.public_key().raw.to_vec(),
    })
}

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

    /// Reads what [`Authorities::store`] gave.
    ///
    /// # Errors
    /// Some PEM is not what it should be.
    pub fn load(stored: &Stored) -> Result<Self, TlsError> {
        let next = stored.next.as_ref();
        let next = next.map(|(certificate, key)| Authority::from_pem(certificate, key));
        let mut former = Vec::new();
        for pem in certificates(&stored.former) {
            let ends_ms = read(&pem)?.ends_ms;
            former.push((pem, ends_ms));
        }
        Ok(Self {
            signing: Authority::from_pem(&stored.certificate, &stored.key)?,
            next: next.transpose()?,
            former,
        })
    }

    /// What is to be stored.
    #[must_use]
    pub fn store(&self) -> Stored {
        let next = self.next.as_ref();
        Stored {
            certificate: self.signing.certificate_pem().to_owned(),
            key: self.signing.key_pem(),
            next: next.map(|next| (next.certificate_pem().to_owned(), next.key_pem())),
            former: self.former.iter().map(|(pem, _)| pem.as_str()).collect(),
        }
    }

    /// The certificates that proxies are to trust, in PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.iter().map(Authority::certificate_pem);
        let former = self.former.iter().map(|(pem, _)| pem.as_str());
        std::iter::once(self.signing.certificate_pem())
            .chain(next)
            .chain(former)
            .collect()
    }

    /// A copy of the one that signs, for [`Certificates`](super::Certificates).
    ///
    /// # Errors
    /// Its own PEM could not be read back.
    pub fn signing(&self) -> Result<Authority, TlsError> {
        Authority::from_pem(self.signing.certificate_pem(), &self.signing.key_pem())
    }

    /// Takes the step that is due at `now_ms`, if any, and says whether one was taken: store the
    /// authorities and publish the bundle **before** signing with the new one.
    ///
    /// # Errors
    /// A key could not be made; nothing has changed.
    pub fn advance(&mut self, now_ms: i64) -> Result<bool, TlsError> {
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

/// Whether `next` has been in the bundle for long enough.
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
