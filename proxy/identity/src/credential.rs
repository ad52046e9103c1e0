//! The credential of one identity, as endpoints hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::shutdown::Trigger;
use proxy_core::table::{Identity, Principal};
use tokio::sync::{Notify, watch};

use crate::bearer::Bearer;
use crate::failure::{Again, NoToken};

/// A token that a backend refused is replaced at once, but not more often: a role that is missing is
/// refused with every token.
const RENEWALS: Duration = Duration::from_secs(60);

/// The credential of one identity. While it is held, its token is fetched and fetched again.
#[derive(Debug)]
pub struct Credential {
    pub(crate) identity: Arc<Identity>,
    pub(crate) shared: Arc<Shared>,
    /// Its drop ends the task.
    _task: Trigger,
}

/// What a credential and its task share.
#[derive(Debug)]
pub(crate) struct Shared {
    bearer: ArcSwapOption<Bearer>,
    fetches: watch::Sender<Fetches>,
    /// How many tokens have come.
    tokens: AtomicU64,
    /// When the last renewal was asked for, and how many fetches had ended then.
    renewed: Mutex<Option<(Instant, u64)>>,
    /// A backend has refused the token.
    pub(crate) renewal: Notify,
}

/// What the fetches so far came to.
#[derive(Debug, Default)]
struct Fetches {
    ended: u64,
    /// Failures since the last token.
    in_a_row: u32,
    /// Of the last one.
    failure: Option<NoToken>,
}

impl Credential {
    /// Shows the token of `before` until its own has come, if that is the same application with another
    /// secret.
    pub(crate) fn new(identity: Arc<Identity>, before: Option<&Self>, task: Trigger) -> Self {
        let before = before.filter(|before| is_same_but_secret(&before.identity, &identity));
        let bearer = before.and_then(|before| before.shared.bearer.load_full());
        let shared = Shared {
            bearer: ArcSwapOption::new(bearer),
            fetches: watch::Sender::default(),
            tokens: AtomicU64::new(0),
            renewed: Mutex::default(),
            renewal: Notify::new(),
        };
        Self {
            identity,
            shared: Arc::new(shared),
            _task: task,
        }
    }

    /// The token, if there is one that has not ended at `now`. Two atomic operations.
    #[must_use]
    pub fn bearer(&self, now: Instant) -> Option<Arc<Bearer>> {
        self.shared.bearer(now)
    }

    /// The number of the token, which a new one raises.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.shared.tokens.load(Ordering::Relaxed)
    }

    /// Why there is no token at `now`; `None` if there is one.
    #[must_use]
    pub fn trouble(&self, now: Instant) -> Option<NoToken> {
        if self.bearer(now).is_some() {
            return None;
        }
        let failure = self.shared.fetches.borrow().failure.clone();
        Some(failure.unwrap_or(NoToken::Pending))
    }

    /// Waits for a token until `until`, but not beyond a failure that does not pass by itself, or a second
    /// one in a row: a process that has just started may have no network for a second.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ready(&self, until: Instant) -> Result<Arc<Bearer>, NoToken> {
        let mut fetches = self.shared.fetches.subscribe();
        loop {
            let failure = fetches.borrow_and_update().final_failure();
            if let Some(bearer) = self.bearer(clock::instant()) {
                return Ok(bearer);
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            match tokio::time::timeout_at(until.into(), fetches.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(NoToken::Pending),
            }
        }
    }

    /// A backend has refused `refused`: another token, if one comes until `until`. Of all requests that are
    /// refused together, one fetch serves all.
    pub async fn renewed(&self, refused: &Bearer, until: Instant) -> Option<Arc<Bearer>> {
        let mut fetches = self.shared.fetches.subscribe();
        let other = || {
            let bearer = self.bearer(clock::instant());
            bearer.filter(|bearer| !bearer.is_same(refused))
        };
        if let Some(bearer) = other() {
            return Some(bearer);
        }
        if !self.ask_anew(fetches.borrow_and_update().ended) {
            return None;
        }
        tokio::time::timeout_at(until.into(), fetches.changed())
            .await
            .ok()?
            .ok()?;
        other()
    }

    /// Whether a fetch is to come: asks for one, unless the last was asked for too short a time ago. One
    /// that was asked for and has not ended counts.
    fn ask_anew(&self, ended: u64) -> bool {
        let now = clock::instant();
        let mut renewed = self.shared.renewed.lock();
        if let Some((at, before)) = *renewed
            && now.saturating_duration_since(at) < RENEWALS
        {
            return before == ended;
        }
        *renewed = Some((now, ended));
        self.shared.renewal.notify_one();
        true
    }
}

impl Fetches {
    /// The last failure, if no wait of a few seconds is likely to help.
    fn final_failure(&self) -> Option<NoToken> {
        let failure = self.failure.as_ref()?;
        let passes = self.in_a_row == 1 && failure.again() == Again::Soon;
        (!passes).then(|| failure.clone())
    }
}

fn is_same_but_secret(one: &Identity, other: &Identity) -> bool {
    match (&one.principal, &other.principal) {
        (
            Principal::Application {
                tenant_id,
                client_id,
                ..
            },
            Principal::Application {
                tenant_id: other_tenant,
                client_id: other_client,
                ..
            },
        ) => tenant_id == other_tenant && client_id == other_client && one.scope == other.scope,
        _ => false,
    }
}

impl Shared {
    fn bearer(&self, now: Instant) -> Option<Arc<Bearer>> {
        self.bearer.load_full().filter(|bearer| now < bearer.ends)
    }

    /// A fetch has ended with a token.
    pub(crate) fn succeeded(&self, bearer: Bearer) {
        self.bearer.store(Some(Arc::new(bearer)));
        self.tokens.fetch_add(1, Ordering::Relaxed);
        self.fetches.send_modify(|fetches| {
            fetches.ended += 1;
            fetches.in_a_row = 0;
            fetches.failure = None;
        });
    }

    /// A fetch has ended without one. The old token stays.
    pub(crate) fn failed(&self, failure: NoToken) {
        self.fetches.send_modify(|fetches| {
            fetches.ended += 1;
            fetches.in_a_row = fetches.in_a_row.saturating_add(1);
            fetches.failure = Some(failure);
        });
    }
}
