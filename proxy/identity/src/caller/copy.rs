//! The keys of an issuer on disk: a process that starts while the issuer is away judges by them. They are
//! public.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proxy_core::auth::Source;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::key_set::KeySet;

/// The file of one issuer.
#[derive(Clone, Debug)]
pub(super) struct Copy(PathBuf);

impl Copy {
    /// The file of `source` in a folder: its name is a digest, since an issuer's may be longer than names of
    /// files.
    pub(super) fn of(source: &Source, folder: &Path) -> Self {
        let mut digest = Sha256::new_with_prefix(source.issuer.as_bytes());
        digest.update(b"\n");
        digest.update(source.jwks_uri.as_deref().unwrap_or_default().as_bytes());
        let digest = digest
            .finalize()
            .iter()
            .fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
        Self(folder.join(format!("{digest}.json")))
    }

    /// The keys, if there are any. A damaged file is logged and left alone.
    pub(super) fn read(&self) -> Option<KeySet> {
        let path = self.0.display();
        match std::fs::read(&self.0) {
            Ok(bytes) => {
                let set = KeySet::parse(&bytes);
                match set {
                    Some(_) => info!(%path, "keys of an issuer, as they were fetched last"),
                    None => warn!(%path, "the kept keys of an issuer cannot be read"),
                }
                set
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(%path, %error, "the kept keys of an issuer cannot be read");
                None
            }
        }
    }

    /// Replaces the file by a document that could be read, in one step.
    pub(super) async fn write(&self, document: Bytes) {
        let path = self.0.clone();
        let written = spawn_blocking(move || replace(&path, &document)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = written {
            let path = self.0.display();
            warn!(%path, %error, "the keys of an issuer cannot be kept");
        }
    }
}

fn replace(path: &Path, document: &[u8]) -> io::Result<()> {
    // Whoever may write there decides which tokens are good.
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&fresh)?.write_all(document)?;
    std::fs::rename(fresh, path)
}
