//! A certificate with its key, as PEM files have them.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::TlsFiles;

/// A certificate that can be shown.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// In lower case; `*.` begins a wildcard.
    pub(super) names: Vec<String>,
    /// When it ends, in seconds of Unix time.
    pub(super) ends_s: i64,
}

/// The texts of both files.
pub(super) struct Texts {
    files: TlsFiles,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

fn named(path: &Path, cause: impl Display) -> String {
    format!("{}: {cause}", path.display())
}

// === impl Texts ===

impl Texts {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, String> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| named(path, error));
        Ok(Self {
            files: files.clone(),
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
        })
    }

    /// Tells other texts apart: times of files do not, if a mount or a checkout sets them.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.certificate.hash(&mut hasher);
        self.key.hash(&mut hasher);
        hasher.finish()
    }

    /// Reads the pair, whose parts must belong together.
    pub(super) fn pair(&self, provider: &CryptoProvider) -> Result<Pair, String> {
        let TlsFiles { certificate, key } = &self.files;
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| named(certificate, error))?;
        let leaf = chain.first();
        let leaf = leaf.ok_or_else(|| named(certificate, "it holds no certificate"))?;
        let (names, ends_s) = facts(leaf).map_err(|error| named(certificate, error))?;
        let private = PrivateKeyDer::from_pem_slice(&self.key);
        let private = private.map_err(|error| named(key, error))?;
        let key = CertifiedKey::from_der(chain, private, provider)
            .map_err(|error| named(key, format!("no key of {}: {error}", certificate.display())))?;
        Ok(Pair {
            key: Arc::new(key),
            names,
            ends_s,
        })
    }
}

/// The names that a certificate is for, and when it ends.
fn facts(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let names = leaf.subject_alternative_name();
    let names = names.map_err(|error| error.to_string())?;
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    let mut dns_names = Vec::new();
    for name in names {
        if let GeneralName::DNSName(name) = name {
            dns_names.push(name.to_ascii_lowercase());
        }
    }
    Ok((dns_names, leaf.validity().not_after.timestamp()))
}
