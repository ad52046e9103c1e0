//! Begins the rounds of a core, in which requests begin: `overload` says which.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proxy_admin::clock;
use tokio::task::yield_now;

use crate::state::Core;

/// Works until the runtime of the core ends. A task that gives way comes back when all that was ready has had its
/// turn.
pub(crate) async fn pace(core: Arc<Core>) {
    let overload = &core.overload;
    loop {
        overload.wanted().await;
        let mut began = clock::instant();
        let mut goes_on = true;
        while goes_on {
            yield_now().await;
            let now = clock::instant();
            let lasted = now.saturating_duration_since(began);
            goes_on = overload.round(now, lasted, core.exchanges.load(Ordering::Relaxed));
            began = now;
        }
    }
}
