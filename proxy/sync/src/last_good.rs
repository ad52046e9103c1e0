//! The last good table on disk: a proxy that starts with every operator gone serves from it.
//!
//! The file is a snapshot line, as on the channel, and a line for each change after it: a change costs what
//! it changes. Once there are many it is written whole again, and replaced atomically. Only its owner can
//! read it. Backend credentials are left out unless the volume is in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_wire::v1::{self, DecodeError, Delta, Line, Objects, Snapshot};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::current::{Current, Origin, Outcome, Version};

#[cfg(test)]
mod tests;

/// Most changes after a snapshot: what was removed is in the file until the next one. Each is some tens of microseconds of the next start.
const CHANGES: usize = 256;

/// Bytes of the file that are read at once.
const READ: usize = 256 * 1024;

/// The file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastGoodError {
    #[error("last good table: {0}")]
    Io(#[from] io::Error),
    #[error("last good table: {0}")]
    Decode(#[from] DecodeError),
    #[error("last good table: not a snapshot")]
    NotASnapshot,
    #[error("last good table: a line after the snapshot is not a change")]
    NotAChange,
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
    let mut kept = Keeper::new(path.clone(), credentials);
    while newest.changed().await.is_ok() {
        let Some((version, replicas)) = newest.borrow_and_update().clone() else {
            continue;
        };
        let revision = version.revision;
        let written = spawn_blocking(move || {
            let result = kept.put(&version, replicas);
            (kept, result)
        });
        kept = match written.await {
            Ok((kept, result)) => {
                if let Err(error) = result {
                    warn!(revision, %error, "last good table not written");
                }
                kept
            }
            Err(error) => {
                warn!(revision, %error, "last good table not written");
                Keeper::new(path.clone(), credentials)
            }
        };
    }
}

fn read(path: &Path) -> Result<Option<(Version, u64)>, LastGoodError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    let mut reader = BufReader::with_capacity(READ, file);
    let mut line = Vec::with_capacity(length);
    reader.read_until(b'\n', &mut line)?;
    let Line::Snapshot(snapshot) = Line::parse(&line)? else {
        return Err(LastGoodError::NotASnapshot);
    };
    let (mut revision, mut replicas) = (snapshot.revision, snapshot.replicas);
    let mut objects = snapshot.verified()?;
    let mut digest = v1::digest(&objects);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            break;
        }
        if !line.ends_with(b"\n") {
            // The proxy died while it wrote, so this change was not kept.
            warn!(path = %path.display(), "the last change in the file is cut, and left out");
            break;
        }
        let Line::Delta(delta) = Line::parse(&line)? else {
            return Err(LastGoodError::NotAChange);
        };
        objects = v1::apply(&objects, &digest, &delta)?;
        (revision, replicas, digest) = (delta.revision, delta.replicas, delta.digest);
    }
    let version = Version {
        revision,
        digest: digest.into(),
        objects: Arc::new(objects),
    };
    Ok(Some((version, replicas)))
}

/// Writes the file.
struct Keeper {
    path: PathBuf,
    credentials: bool,
    /// What is in the file; `None` before the first table, and after an error.
    written: Option<Written>,
}

struct Written {
    /// The table that was received last.
    received: Arc<Objects>,
    /// The same as it is in the file.
    objects: Objects,
    digest: String,
    /// Bytes of the snapshot, and of the whole file.
    snapshot: usize,
    length: usize,
    changes: usize,
}

// === impl Keeper ===

impl Keeper {
    const fn new(path: PathBuf, credentials: bool) -> Self {
        Self {
            path,
            credentials,
            written: None,
        }
    }

    fn put(&mut self, version: &Version, replicas: u64) -> Result<(), LastGoodError> {
        let before = self.written.take();
        let objects = self.kept(version, before.as_ref());
        let digest = v1::digest(&objects);
        if let Some(before) = before
            && let Some(length) = self.append((version, &objects, &digest), replicas, &before)?
        {
            self.written = Some(Written {
                received: Arc::clone(&version.objects),
                objects,
                digest,
                length,
                changes: before.changes.saturating_add(1),
                ..before
            });
            return Ok(());
        }
        let line = Line::Snapshot(Snapshot {
            version: v1::VERSION,
            revision: version.revision,
            digest: digest.clone(),
            replicas,
            objects: objects.clone(),
        });
        let line = line.to_bytes()?;
        self.replace(&line)?;
        self.written = Some(Written {
            received: Arc::clone(&version.objects),
            objects,
            digest,
            snapshot: line.len(),
            length: line.len(),
            changes: 0,
        });
        Ok(())
    }

    /// What the file may have of the table.
    fn kept(&self, version: &Version, before: Option<&Written>) -> Objects {
        if self.credentials {
            return (*version.objects).clone();
        }
        let none = Objects::default();
        let (previous, withheld) =
            before.map_or((&none, &none), |one| (&*one.received, &one.objects));
        v1::without_credentials_reusing(&version.objects, previous, withheld)
    }

    /// Adds what has changed, and gives the new length. `None` if it is time to write the whole again, or the
    /// file is not as it was left.
    fn append(
        &self,
        (version, objects, digest): (&Version, &Objects, &str),
        replicas: u64,
        before: &Written,
    ) -> Result<Option<usize>, LastGoodError> {
        if before.changes >= CHANGES {
            return Ok(None);
        }
        let (changed, removed) = v1::diff(&before.objects, objects);
        let (changed, edited) = v1::edited(&before.objects, changed);
        let line = Line::Delta(Delta {
            base: before.digest.clone(),
            revision: version.revision,
            digest: digest.to_owned(),
            replicas,
            changed,
            edited,
            removed,
        });
        let line = line.to_bytes()?;
        let length = before.length.saturating_add(line.len());
        if length > before.snapshot.saturating_mul(2) {
            return Ok(None);
        }
        let mut file = match OpenOptions::new().append(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if usize::try_from(file.metadata()?.len()).ok() != Some(before.length) {
            return Ok(None);
        }
        file.write_all(&line)?;
        file.sync_data()?;
        Ok(Some(length))
    }

    fn replace(&self, line: &[u8]) -> Result<(), LastGoodError> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let fresh = self.path.with_file_name(name);
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
        file.write_all(line)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        // The rename itself must survive a crash too.
        if let Some(folder) = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}
