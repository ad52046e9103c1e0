//! The keys of one issuer, kept current by a task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use super::claims::Claims;
use super::copy::Copy;
use super::fetch::{KeySource, Outside, fetch};
use super::key_set::KeySet;
use super::token::{Expectation, Rejected};
use crate::metrics::KeyFetches;
use crate::schedule;

#[cfg(test)]
mod tests;

/// Keys are fetched again this often, give or take a tenth. Issuers announce new ones a day before.
const EVERY: Duration = Duration::from_secs(2 * 60 * 60);
/// An unknown key has the set fetched again, but not more often: anybody can make up its name.
const UNKNOWN: Duration = Duration::from_secs(30);

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    outside: Arc<Outside>,
    /// The last good keys on disk.
    copy: Option<Copy>,
    metrics: KeyFetches,
    set: ArcSwapOption<KeySet>,
    /// Another one for each document that differs from the one before.
    edition: AtomicU64,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    state: Mutex<State>,
    /// How long after one that an unknown key asked for another may ask.
    unknown_after: Duration,
    unknown: Notify,
}

/// What the task of an issuer does.
#[derive(Debug, Default)]
struct State {
    /// No fetch is under way.
    is_idle: bool,
    /// When an unknown key asked for one.
    asked: Option<Instant>,
}

impl Keys {
    /// Those of the copy, if there is one: [`Keys::run`] fetches them.
    pub(super) fn new(
        source: KeySource,
        outside: Arc<Outside>,
        copy: Option<Copy>,
        metrics: KeyFetches,
    ) -> Self {
        let set = copy.as_ref().and_then(Copy::read);
        Self {
            source,
            outside,
            copy,
            metrics,
            set: ArcSwapOption::new(set.map(Arc::new)),
            edition: AtomicU64::new(0),
            ended: watch::Sender::default(),
            state: Mutex::default(),
            unknown_after: UNKNOWN,
            unknown: Notify::new(),
        }
    }

    /// Judges a token. Waits until `until` for the keys if there are none yet, or if its key is unknown and
    /// a fetch may show it. With the claims comes the edition of the keys that prove them.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub(super) async fn judge(
        &self,
        token: &str,
        expectation: &Expectation,
        until: Instant,
    ) -> Result<(Claims, u64), Rejected> {
        let mut ended = self.ended.subscribe();
        let judged = self.by_known(token, expectation);
        if judged != Err(Rejected::UnknownKey) {
            return judged;
        }
        if self.is_coming() {
            let waited = tokio::time::timeout_at(until.into(), ended.changed());
            waited.await.ok();
        }
        // Also if a fetch ended just now.
        self.by_known(token, expectation)
    }

    fn by_known(&self, token: &str, expectation: &Expectation) -> Result<(Claims, u64), Rejected> {
        // First: keys that come meanwhile are another edition.
        let edition = self.edition();
        let set = self.set.load();
        let none = KeySet::default();
        let claims = expectation.judge(token, set.as_deref().unwrap_or(&none), clock::now())?;
        Ok((claims, edition))
    }

    /// Whether a fetch is under way, or was asked for now.
    fn is_coming(&self) -> bool {
        let mut state = self.state.lock();
        if !state.is_idle {
            return true;
        }
        let now = clock::instant();
        let is_recent = |at| now.saturating_duration_since(at) < self.unknown_after;
        if state.asked.is_some_and(is_recent) {
            return false;
        }
        *state = State {
            is_idle: false,
            asked: Some(now),
        };
        self.unknown.notify_one();
        true
    }

    /// Keeps the keys current until `shutdown`. What a fetch that failed would have replaced stays.
    pub(super) async fn run(&self, mut shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.keep() => {}
        }
    }

    /// The edition of the keys: what an earlier one proved may have been signed by a key that is withdrawn.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    async fn keep(&self) {
        let mut failures = 0_u32;
        let mut last = Bytes::new();
        loop {
            let fetched = fetch(&self.outside, &self.source).await;
            self.metrics.ended(fetched.is_ok());
            let wait = match fetched {
                Ok((set, document)) => {
                    if failures > 0 {
                        warn!(source = %self.source, failures, "the keys of an issuer can be fetched again");
                    }
                    failures = 0;
                    debug!(source = %self.source, keys = ?set, "keys of an issuer");
                    if document != last {
                        self.set.store(Some(Arc::new(set)));
                        self.edition.fetch_add(1, Ordering::Release);
                        last = document.clone();
                    }
                    if let Some(copy) = &self.copy {
                        copy.write(document).await;
                    }
                    schedule::refresh(EVERY * 2, rand::random())
                }
                Err(cause) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        let has_keys = self.set.load().is_some();
                        warn!(source = %self.source, cause, has_keys, "the keys of an issuer cannot be fetched");
                    }
                    schedule::retry(failures, rand::random())
                }
            };
            self.state.lock().is_idle = true;
            self.ended.send_modify(|ended| *ended += 1);
            tokio::select! {
                () = tokio::time::sleep(wait) => self.state.lock().is_idle = false,
                () = self.unknown.notified() => {}
            }
        }
    }
}
