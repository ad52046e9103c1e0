//! How a core ends: its exchanges within the grace period, then its connections.
//!
//! The port is closed when this begins. Requests that come on open connections are served until the last
//! exchange has ended, since a client cannot know yet that it should go elsewhere.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::state::Core;

#[cfg(test)]
mod tests;

/// How often a draining core looks whether its last exchange has ended.
const POLL: Duration = Duration::from_millis(20);
/// How long a core without an exchange waits for a request that may be on its way: longer than a round trip to
/// the other side of the earth.
const QUIET: Duration = Duration::from_millis(500);
/// How long connections have for their last bytes, once nothing runs.
const GOODBYE: Duration = Duration::from_millis(400);
/// So long before the end of the grace period, but not more than a tenth of it, connections on HTTP/2 get their
/// GOAWAY although streams are open: clients that have always some go elsewhere, and short answers still end.
const LAST_CALL: Duration = Duration::from_secs(5);
/// How long exchanges have for their last word, once they are cut.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Lets what runs end, and cuts what still runs at the end of the grace period or once `shutdown` says so.
pub(crate) async fn drain(core: &Core, shutdown: &mut Shutdown) {
    let closer = &core.closer;
    closer.drain();
    let is_quiet = tokio::select! {
        is_quiet = ended(core) => is_quiet,
        () = shutdown.cutting() => false,
    };
    if !is_quiet {
        let exchanges = core.exchanges.load(Ordering::Relaxed);
        warn!(
            exchanges,
            "the grace period is over; cutting what still runs"
        );
        closer.cut();
        timeout(LAST_WORD, idle(core)).await.ok();
    }
    closer.stop();
    timeout(GOODBYE, disconnected(core)).await.ok();
}

/// Whether all exchanges have ended within the grace period.
async fn ended(core: &Core) -> bool {
    let grace = core.shared.config.drain_grace;
    let last_call = LAST_CALL.min(grace / 10);
    if timeout(grace.saturating_sub(last_call), quiet(core))
        .await
        .is_ok()
    {
        return true;
    }
    core.closer.stop();
    timeout(last_call, idle(core)).await.is_ok()
}

/// Waits until no exchange runs, whatever carries it, and for a while none begins.
async fn quiet(core: &Core) {
    let mut busy = clock::instant();
    while core.is_busy() || core.is_connected() {
        if core.is_busy() {
            busy = clock::instant();
        } else if clock::instant().saturating_duration_since(busy) >= QUIET {
            return;
        }
        sleep(POLL).await;
    }
}

async fn idle(core: &Core) {
    while core.is_busy() {
        sleep(POLL).await;
    }
}

async fn disconnected(core: &Core) {
    while core.is_connected() {
        sleep(POLL).await;
    }
}
