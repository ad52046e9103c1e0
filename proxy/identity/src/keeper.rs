//! The task of one identity: fetches its token, and again at half of its life.

use std::sync::Arc;
use std::time::Duration;

use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use proxy_core::table::Identity;
use tracing::{debug, info, warn};

use crate::answer::Token;
use crate::bearer::Bearer;
use crate::credential::Shared;
use crate::failure::{Again, NoToken};
use crate::metrics::Handles;
use crate::schedule;

#[cfg(test)]
mod tests;

/// The task of one identity, before it runs.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) identity: Arc<Identity>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Handles,
    pub(crate) shutdown: Shutdown,
}

impl Keeper {
    /// Fetches until nothing holds the credential any more. Returns the metrics, which may be retired then.
    pub(crate) async fn run<F>(mut self, fetch: impl Fn() -> F) -> Handles
    where
        F: Future<Output = Result<Token, NoToken>>,
    {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.keep(fetch) => {}
        }
        self.metrics
    }

    async fn keep<F>(&mut self, fetch: impl Fn() -> F)
    where
        F: Future<Output = Result<Token, NoToken>>,
    {
        let mut failures = 0_u32;
        loop {
            let fetched = fetch().await.and_then(|token| self.accept(&token));
            let wait = match fetched {
                Ok(lives) => {
                    if failures > 0 {
                        self.recovered(failures);
                    }
                    failures = 0;
                    schedule::refresh(lives, rand::random())
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    let wait = wait_after(&failure, failures);
                    self.failed(failure, failures, wait);
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.renewal.notified() => {
                    info!(identity = %self.identity, "a backend refused the token: fetching another");
                }
            }
        }
    }

    /// Shows a token from now on. Returns its life.
    fn accept(&self, token: &Token) -> Result<Duration, NoToken> {
        let now = clock::instant();
        let ends = now + schedule::shown(token.lives);
        let bearer = Bearer::new(&token.secret, ends).map_err(|_error| NoToken::Malformed {
            host: "the token endpoint".to_owned(),
            reason: "the token has characters that no header can carry",
        })?;
        let unix = Duration::from_micros(clock::unix_micros(now).unsigned_abs());
        self.metrics
            .fetched(unix.saturating_add(token.lives).as_secs_f64());
        self.shared.succeeded(bearer);
        debug!(identity = %self.identity, lives_s = token.lives.as_secs(), "token fetched");
        Ok(token.lives)
    }

    /// The line comes once for each row of failures.
    fn failed(&self, failure: NoToken, failures: u32, wait: Duration) {
        self.metrics.failed(&failure);
        if failures == 1 {
            warn!(
                identity = %self.identity,
                code = failure.number(),
                cause = %failure,
                advice = failure.advice(),
                "an identity gets no token; the one that it has is shown until its end"
            );
        } else {
            debug!(
                identity = %self.identity,
                failures,
                cause = %failure,
                next_s = wait.as_secs(),
                "an identity still gets no token"
            );
        }
        self.shared.failed(failure);
    }

    fn recovered(&self, failures: u32) {
        warn!(identity = %self.identity, failures, "an identity gets tokens again");
    }
}

fn wait_after(failure: &NoToken, failures: u32) -> Duration {
    match failure.again() {
        Again::Soon => schedule::retry(failures, rand::random()),
        Again::Late => schedule::late(rand::random()),
        Again::After(wait) => wait.max(schedule::retry(failures, rand::random())),
    }
}
