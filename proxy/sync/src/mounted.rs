//! The snapshot that the operators left in Secrets, mounted as files: a proxy that starts while every
//! operator is away, and has no last good table, serves from it.
//!
//! Operators are asked first: their answer replaces a snapshot, whatever its revision. Until there is
//! one, the files are looked at again, since kubelet replaces them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use proxy_wire::v1::{self, DecodeError, Head, PartsError};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::current::{Current, Origin, Outcome, Version};

#[cfg(test)]
mod tests;

/// Time for the operators before a snapshot is used: it may be older than what they have. One that is
/// there answers within a fraction of it.
const HEAD_START: Duration = Duration::from_millis(500);

/// Pause between two looks: kubelet needs a minute, and a client of a proxy without a table waits.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
enum MountedError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Parts(#[from] PartsError),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Refused(String),
}

/// A folder with the files `part-0`, `part-1` and so on.
pub(crate) struct MountedSnapshot {
    folder: PathBuf,
    /// The snapshot of the last look, if all of it could be read.
    known: Option<Head>,
    /// What was logged last.
    logged: Option<String>,
}

// === impl MountedSnapshot ===

impl MountedSnapshot {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            known: None,
            logged: None,
        }
    }

    /// Looks at the files until an operator has answered.
    pub(crate) async fn follow(mut self, current: Arc<Current>, mut shutdown: Shutdown) {
        let mut pause = HEAD_START;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = shutdown.requested() => return,
            }
            if current.is_answered() {
                return;
            }
            let shared = Arc::clone(&current);
            let looked = spawn_blocking(move || {
                self.look(&shared);
                self
            });
            // A panic was logged where it happened.
            let Ok(this) = looked.await else { return };
            self = this;
            pause = PAUSE;
        }
    }

    /// Makes the snapshot current if it is new.
    pub(crate) fn look(&mut self, current: &Current) {
        match self.read(current) {
            Ok(true) => self.logged = None,
            Ok(false) => {
                if self.is_news("none") {
                    info!(folder = %self.folder.display(), "no snapshot is mounted");
                }
            }
            Err(error) => {
                if self.is_news(&error.to_string()) {
                    error!(
                        folder = %self.folder.display(),
                        %error,
                        fix = fix(&error),
                        "the mounted snapshot cannot be used"
                    );
                }
            }
        }
    }

    fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.logged.as_deref() != Some(text);
        self.logged = Some(text.to_owned());
        is_news
    }

    /// False if there is no snapshot.
    fn read(&mut self, current: &Current) -> Result<bool, MountedError> {
        let Some(first) = part(&self.folder, 0)? else {
            return Ok(false);
        };
        let head = v1::head(&first)?;
        if self.known.as_ref() == Some(&head) {
            return Ok(true);
        }
        let mut parts = vec![first];
        for number in 1..head.parts {
            let part = part(&self.folder, number)?;
            parts.push(part.ok_or(PartsError::Missing(number))?);
        }
        let stored = v1::join(&parts)?;
        drop(parts);
        let (snapshot, written_ms) = (stored.snapshot, stored.written_ms);
        let (revision, replicas) = (snapshot.revision, snapshot.replicas);
        let objects = snapshot.verified()?;
        let version = Version {
            revision,
            digest: v1::digest(&objects).into(),
            objects: Arc::new(objects),
        };
        // A table that is refused is not tried again and again.
        self.known = Some(head);
        match current.restore(version, replicas, Origin::Snapshot { written_ms }) {
            Outcome::Applied(_) => {
                let age_ms = clock::now().unix_ms.saturating_sub(written_ms).max(0);
                warn!(
                    folder = %self.folder.display(),
                    revision,
                    age_seconds = age_ms / 1_000,
                    "no operator answers: serving from the mounted snapshot"
                );
            }
            Outcome::Older => {}
            Outcome::Refused(error) => return Err(MountedError::Refused(error)),
        }
        Ok(true)
    }
}

/// The part of this number; `None` if there is none, or an empty one.
fn part(folder: &Path, number: usize) -> io::Result<Option<Vec<u8>>> {
    match fs::read(folder.join(format!("part-{number}"))) {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a person can do about it.
const fn fix(error: &MountedError) -> &'static str {
    match error {
        MountedError::Io(_) => "mount the Secrets of the snapshot so that this user can read them",
        MountedError::Parts(PartsError::Format { .. })
        | MountedError::Parts(PartsError::Snapshot(_))
        | MountedError::Decode(_)
        | MountedError::Refused(_) => {
            "start an operator, or a proxy of the version of the operator that wrote it"
        }
        MountedError::Parts(
            PartsError::Foreign(_)
            | PartsError::Missing(_)
            | PartsError::Mixed(_)
            | PartsError::Damaged
            | PartsError::TooLarge { .. },
        ) => "start an operator, which writes it again",
    }
}
