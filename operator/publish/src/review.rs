//! Who is calling: asked of a [`Reviewer`], remembered for a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use proxy_admin::clock;
use sha2::{Digest, Sha256};

#[cfg(test)]
mod tests;

/// How long an identity is believed without asking again: a deleted pod may read for so long.
const ADMITTED_FOR: Duration = Duration::from_secs(60);

/// How long a denial is repeated without asking again: it spares the API server a proxy's retries,
/// and is short enough not to delay one whose account has just been allowed.
const DENIED_FOR: Duration = Duration::from_secs(2);

/// Verdicts remembered. A fleet has tens; more than this means that tokens are being guessed.
const REMEMBERED: usize = 4_096;

/// Judges bearer tokens, in a cluster by TokenReview.
pub trait Reviewer: Send + Sync + 'static {
    /// The identity of the replica that `token` stands for; `None` if the token is good but says
    /// nothing of a replica, whose own word then counts.
    ///
    /// # Errors
    /// Why it is not let in.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, Denial>>;
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token is missing, unknown or expired.
    #[error("not authenticated: {0}")]
    Unauthenticated(String),
    /// The token is good, but not for this: another audience, or another account.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// Nobody could judge it now.
    #[error("token cannot be reviewed now: {0}")]
    Unavailable(String),
}

type Verdict = Result<Option<String>, Denial>;

/// A reviewer with a memory. Tokens are remembered by their SHA-256 only.
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
            Err(Denial::Unauthenticated(_) | Denial::Forbidden(_)) => now + DENIED_FOR,
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
