//! The identity of a caller: a [`Reviewer`] judges its token, and the verdict is cached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use proxy_admin::clock;
use sha2::{Digest, Sha256};

#[cfg(test)]
mod tests;

/// Life of a good verdict. A deleted pod may read for this long.
const ADMITTED_FOR: Duration = Duration::from_secs(60);

/// Life of a denial: long enough to keep a proxy's retries from the API server, short enough not to
/// delay a proxy whose account has just been allowed.
const DENIED_FOR: Duration = Duration::from_secs(2);

/// Most verdicts in the cache. A fleet has tens; more than this means that somebody guesses tokens.
const REMEMBERED: usize = 4_096;

/// Judges bearer tokens, in a cluster by TokenReview.
pub trait Reviewer: Send + Sync + 'static {
    /// The identity of the replica that shows `token`; `None` if the token is good but names no
    /// replica, which then names itself.
    ///
    /// # Errors
    /// The token is not good, or could not be judged.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, Denial>>;
}

/// Why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token is missing, unknown or expired, or its pod is gone.
    #[error("not authenticated: {0}")]
    Unauthenticated(String),
    /// The token is good for another audience, such as the API server itself.
    #[error("not allowed: the token is not meant for audience {audience}")]
    WrongAudience {
        /// The audience of the channel.
        audience: String,
    },
    /// The token belongs to another account.
    #[error("not allowed: the token belongs to {found}, expected {expected}")]
    WrongAccount {
        /// The account of the token.
        found: String,
        /// The account of the proxies.
        expected: String,
    },
    /// The token could not be judged now; a retry may help.
    #[error("token cannot be reviewed now: {0}")]
    Unavailable(String),
}

type Verdict = Result<Option<String>, Denial>;

/// A reviewer with a cache. It keeps the SHA-256 of a token only.
pub(crate) struct Gate {
    reviewer: Arc<dyn Reviewer>,
    verdicts: Mutex<HashMap<[u8; 32], (Instant, Verdict)>>,
}

impl Gate {
    pub(crate) fn new(reviewer: Arc<dyn Reviewer>) -> Self {
        Self {
            reviewer,
            verdicts: Mutex::default(),
        }
    }

    pub(crate) async fn admit(&self, token: &str) -> Verdict {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some((until, verdict)) = self.verdicts.lock().get(&key)
            && clock::instant() < *until
        {
            return verdict.clone();
        }
        let verdict = self.reviewer.review(token).await;
        let now = clock::instant();
        let until = match &verdict {
            Ok(_) => now + ADMITTED_FOR,
            Err(
                Denial::Unauthenticated(_)
                | Denial::WrongAudience { .. }
                | Denial::WrongAccount { .. },
            ) => now + DENIED_FOR,
            Err(Denial::Unavailable(_)) => return verdict,
        };
        let mut verdicts = self.verdicts.lock();
        if verdicts.len() >= REMEMBERED {
            verdicts.retain(|_, (until, _)| now < *until);
        }
        if verdicts.len() >= REMEMBERED {
            verdicts.clear();
        }
        verdicts.insert(key, (until, verdict.clone()));
        verdict
    }
}
