//! The files of all certificates, and what was last read of each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use tracing::{info, warn};

use super::ends::Ends;
use super::pair::{Pair, Texts};
use crate::config::{TlsFiles, TlsSource};

/// A certificate that ends within this time should have been renewed: issuers renew those of a day hours
/// before.
const SOON_S: i64 = 60 * 60;

/// All certificates, by the name of the folder that each is in. The one without a folder has no name, and
/// so comes first.
pub(super) struct Files {
    source: TlsSource,
    provider: Arc<CryptoProvider>,
    ends: Ends,
    known: BTreeMap<String, Known>,
    /// Why the folder could not be listed, if that was logged.
    logged: Option<String>,
}

/// What is known of a pair of files.
#[derive(Default)]
struct Known {
    /// Of the texts that were read last, good or not; `None` if they could not be read.
    digest: Option<u64>,
    /// What is wrong with them, which was logged.
    logged: Option<String>,
    /// The end of the pair in use, if the log has it that it is near.
    logged_end_s: Option<i64>,
    pair: Option<Pair>,
}

// === impl Files ===

impl Files {
    /// Reads nothing yet.
    pub(super) fn new(source: &TlsSource, provider: Arc<CryptoProvider>, ends: &Ends) -> Self {
        Self {
            source: source.clone(),
            provider,
            ends: ends.clone(),
            known: BTreeMap::new(),
            logged: None,
        }
    }

    /// The pairs that can be used, the default one first.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.known.values().filter_map(|known| known.pair.as_ref())
    }

    /// Reads what changed. Returns whether other pairs can be used now.
    ///
    /// # Errors
    /// The default pair was never good, or none in the folder: without one there is no HTTPS.
    pub(super) fn look(&mut self, now_s: i64) -> Result<bool, String> {
        let mut found: Vec<_> = self
            .source
            .pair
            .clone()
            .map(|pair| (String::new(), pair))
            .into_iter()
            .collect();
        match self.source.folder.as_deref().map(listed).transpose() {
            Ok(listed) => {
                self.logged = None;
                found.extend(listed.into_iter().flatten());
            }
            Err(cause) => {
                if self.logged.as_ref() != Some(&cause) {
                    warn!(cause, "the folder of TLS certificates cannot be listed");
                    self.logged = Some(cause);
                }
            }
        }
        let mut changed = self.logged.is_none() && self.forget(&found);
        for (name, files) in &found {
            let known = self.known.entry(name.clone()).or_default();
            changed |= known.look(files, &self.provider, now_s);
            if let Some(pair) = &known.pair {
                self.ends.set(name, pair.ends_s);
            }
        }
        let first = self.known.values().next();
        if self.source.pair.is_some() && first.is_some_and(|first| first.pair.is_none())
            || self.pairs().next().is_none()
        {
            let mut causes = self.known.values().filter_map(|known| known.logged.clone());
            let cause = causes.next().or_else(|| self.logged.clone());
            return Err(cause.unwrap_or_else(|| {
                "the folder has no folder with tls.crt and tls.key".to_owned()
            }));
        }
        Ok(changed)
    }

    /// Drops pairs whose folder is gone, unless none would be left. Returns whether one was in use.
    fn forget(&mut self, found: &[(String, TlsFiles)]) -> bool {
        let is_found = |name: &str| found.iter().any(|(found, _)| found == name);
        let mut stays = self
            .known
            .iter()
            .filter(|(name, known)| is_found(name) && known.pair.is_some());
        if stays.next().is_none() {
            return false;
        }
        let before = self.pairs().count();
        self.known.retain(|name, _| {
            let stays = is_found(name);
            if !stays {
                info!(certificate = name, "a TLS certificate was removed");
                self.ends.forget(name);
            }
            stays
        });
        self.pairs().count() != before
    }
}

/// The pairs in the folders of a folder. What begins with a dot is the kubelet's.
fn listed(folder: &Path) -> Result<Vec<(String, TlsFiles)>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if !name.starts_with('.') && path.is_dir() {
            let files = TlsFiles {
                certificate: path.join("tls.crt"),
                key: path.join("tls.key"),
            };
            found.push((name, files));
        }
    }
    Ok(found)
}

// === impl Known ===

impl Known {
    /// Reads the pair if it changed. Returns whether another one is in use.
    fn look(&mut self, files: &TlsFiles, provider: &CryptoProvider, now_s: i64) -> bool {
        let texts = Texts::read(files);
        let digest = texts.as_ref().ok().map(Texts::digest);
        let changed = if digest.is_some() && digest == self.digest {
            false
        } else {
            self.digest = digest;
            let pair = texts.and_then(|texts| texts.pair(provider));
            self.take(pair, files, now_s)
        };
        self.log_end(files, now_s);
        changed
    }

    fn take(&mut self, pair: Result<Pair, String>, files: &TlsFiles, now_s: i64) -> bool {
        let is_good = |pair: &Pair| pair.ends_s > now_s;
        let pair = match pair {
            Ok(pair) if !is_good(&pair) && self.pair.as_ref().is_some_and(is_good) => {
                Err(format!("{}: it has ended", files.certificate.display()))
            }
            pair => pair,
        };
        match pair {
            Ok(pair) => {
                info!(
                    certificate = %files.certificate.display(),
                    names = pair.names.join(","),
                    ends_unix_s = pair.ends_s,
                    "TLS certificate in use"
                );
                self.pair = Some(pair);
                self.logged = None;
                true
            }
            Err(cause) => {
                // Other texts are another mistake, also if it looks the same.
                if self.digest.is_some() || self.logged.as_ref() != Some(&cause) {
                    warn!(
                        cause,
                        keeps_old = self.pair.is_some(),
                        "a TLS certificate cannot be used"
                    );
                    self.logged = Some(cause);
                }
                false
            }
        }
    }

    /// Says once of each pair in use that its end is near, or past.
    fn log_end(&mut self, files: &TlsFiles, now_s: i64) {
        let Some(pair) = &self.pair else { return };
        let left_s = pair.ends_s.saturating_sub(now_s);
        if left_s <= SOON_S && self.logged_end_s != Some(pair.ends_s) {
            self.logged_end_s = Some(pair.ends_s);
            warn!(
                certificate = %files.certificate.display(),
                left_s,
                "a TLS certificate in use ends soon, or has ended; renew it"
            );
        }
    }
}
