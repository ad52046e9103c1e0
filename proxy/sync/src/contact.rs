//! Says when operators are out of reach: a proxy goes on with the table that it has, so nothing else would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proxy_admin::shutdown::Shutdown;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::connection::ChannelError;
use crate::current::{Current, Update};

#[cfg(test)]
mod tests;

/// A proxy without contact for longer than this says so: longer than the restart of an operator, and than it
/// takes to find that a connection is dead.
const QUIET: Duration = Duration::from_secs(30);

/// Pause between two looks at the time of the last contact.
const LOOK: Duration = Duration::from_secs(1);

/// The contact with one address of an operator.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    lost: Option<Instant>,
    warned: bool,
}

// === impl Contact ===

impl Contact {
    /// The operator has answered.
    pub(crate) fn made(&mut self, address: SocketAddr) {
        if std::mem::take(&mut self.warned) {
            info!(%address, "an operator answers again");
        }
        self.lost = None;
    }

    /// An attempt has failed, or a subscription has ended.
    pub(crate) fn lost(&mut self, address: SocketAddr, error: Option<&ChannelError>) {
        let since = *self.lost.get_or_insert_with(Instant::now);
        if self.is_news(since) {
            let error =
                error.map_or_else(|| "the subscription ended".to_owned(), ToString::to_string);
            warn!(%address, error, "an operator has been out of reach for half a minute");
        }
    }

    /// Whether it is to be said now: once until the contact is back.
    fn is_news(&mut self, since: Instant) -> bool {
        since.elapsed() >= QUIET && !std::mem::replace(&mut self.warned, true)
    }
}

/// Says in the log when no operator has been in contact for a while, and to the sink while the table is older
/// than `oldest`; `age` is the time since the last contact. Works until `shutdown`.
pub(crate) async fn watch(
    current: Arc<Current>,
    age: impl Fn() -> Duration,
    oldest: Option<Duration>,
    mut shutdown: Shutdown,
) {
    let mut quiet = false;
    let mut stale = false;
    loop {
        tokio::select! {
            () = sleep(LOOK) => {}
            () = shutdown.requested() => return,
        }
        let age = age();
        if !quiet && age >= QUIET {
            warn!(
                age_s = age.as_secs(),
                "no operator is in contact; serving the last table, without changes such as revoked keys"
            );
        } else if quiet && age < QUIET {
            info!("in contact with an operator again");
        }
        quiet = age >= QUIET;
        let was_stale = std::mem::replace(&mut stale, oldest.is_some_and(|oldest| age >= oldest));
        current.metrics().stale(stale);
        if stale && !was_stale {
            warn!(
                age_s = age.as_secs(),
                "the table is older than allowed; not ready"
            );
        }
        // Each time while it lasts: a table from a volume makes the process ready meanwhile.
        if stale || was_stale {
            current.say(Update::Stale(stale));
        }
    }
}
