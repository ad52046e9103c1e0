//! The last good table on disk: a proxy that starts with every operator gone serves from it.
//!
//! The file is one snapshot line, as on the channel. It is replaced atomically, and only its owner can
//! read it. Backend credentials are left out unless the volume is in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_wire::v1::{self, DecodeError, Line, Snapshot};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::current::{Current, Origin, Outcome, Version};

/// The file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastGoodError {
    #[error("last good table: {0}")]
    Io(#[from] io::Error),
    #[error("last good table: {0}")]
    Decode(#[from] DecodeError),
    #[error("last good table: not a snapshot")]
    NotASnapshot,
}

/// Makes the table of `path` current, if there is one. A damaged file is logged and left alone.
pub(crate) fn restore(path: &Path, current: &Current) {
    match read(path) {
        Ok(None) => info!(path = %path.display(), "no last good table"),
        Ok(Some((version, replicas))) => {
            let revision = version.revision;
            if matches!(
                current.restore(version, replicas, Origin::LastGood),
                Outcome::Applied(_)
            ) {
                info!(path = %path.display(), revision, "serving the last good table");
            }
        }
        Err(error) => warn!(path = %path.display(), %error, "last good table not readable"),
    }
}

/// Writes every new table until the sender is dropped. If several arrive at once, writes the newest.
pub(crate) async fn keep(
    path: PathBuf,
    credentials: bool,
    mut newest: watch::Receiver<Option<(Version, u64)>>,
) {
    while newest.changed().await.is_ok() {
        let Some((version, replicas)) = newest.borrow_and_update().clone() else {
            continue;
        };
        let revision = version.revision;
        let target = path.clone();
        let written = spawn_blocking(move || write(&target, &version, replicas, credentials)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(revision, %error, "last good table not written"),
            Err(error) => warn!(revision, %error, "last good table not written"),
        }
    }
}

fn read(path: &Path) -> Result<Option<(Version, u64)>, LastGoodError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Line::Snapshot(snapshot) = Line::parse(&bytes)? else {
        return Err(LastGoodError::NotASnapshot);
    };
    let replicas = snapshot.replicas;
    let revision = snapshot.revision;
    let objects = snapshot.verified()?;
    let version = Version {
        revision,
        digest: v1::digest(&objects).into(),
        objects: Arc::new(objects),
    };
    Ok(Some((version, replicas)))
}

fn write(
    path: &Path,
    version: &Version,
    replicas: u64,
    credentials: bool,
) -> Result<(), LastGoodError> {
    let objects = if credentials {
        (*version.objects).clone()
    } else {
        v1::without_credentials(&version.objects)
    };
    let line = Line::Snapshot(Snapshot {
        version: v1::VERSION,
        revision: version.revision,
        // A proxy of an earlier version can verify this one, too.
        digest: v1::digest_in_a_row(&objects),
        replicas,
        objects,
    });
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    // A file left by a killed process would keep its own mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&line.to_bytes()?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    // The rename itself must survive a crash too.
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
