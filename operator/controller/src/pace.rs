//! The pauses of a watch that failed. kube's default grows to half a minute, and comes again after a version that
//! is too old; a watch has to be back two seconds after the API server.

use std::time::Duration;

use kube::runtime::watcher::Error;
use tokio::time::{Instant, sleep};

#[cfg(test)]
mod tests;

/// First pause: a connection that was closed needs one more request and hardly any time.
const FIRST: Duration = Duration::from_millis(100);

/// Longest pause. A few dozen refused connections a second are nothing to an API server that is back.
const LONGEST: Duration = Duration::from_secs(1);

/// A watch that has failed last before this time begins with short pauses.
const STEADY: Duration = Duration::from_secs(10);

/// Doubles from [`FIRST`] to [`LONGEST`], less up to a half by chance, so that watches which failed together
/// do not come together.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    pause: Option<Duration>,
    last: Option<Instant>,
}

// === impl Pace ===

impl Pace {
    /// Waits after a failure. A version that is too old is no trouble of the API server: a new listing
    /// mends it.
    pub(crate) async fn wait(&mut self, error: &Error) {
        let pause = self.after(is_too_old(error), Instant::now());
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
    }

    /// The longest pause after a failure at `now`.
    fn after(&mut self, is_too_old: bool, now: Instant) -> Duration {
        let since = self.last.replace(now).map(|last| now - last);
        if since.is_none_or(|since| since > STEADY) {
            self.pause = None;
        }
        // One right after another is a loop.
        if is_too_old && since.is_none_or(|since| since > FIRST) {
            return Duration::ZERO;
        }
        let pause = self.pause.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        self.pause = Some(pause);
        pause
    }
}

/// Whether the API server no longer knows the version that the watch goes on from.
fn is_too_old(error: &Error) -> bool {
    match error {
        Error::WatchError(status) => status.code == 410,
        Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status)) => status.code == 410,
        Error::InitialListFailed(_)
        | Error::WatchStartFailed(_)
        | Error::WatchFailed(_)
        | Error::NoResourceVersion => false,
    }
}
