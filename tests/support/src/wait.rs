//! Bounded, level-triggered waits: a probe asks for a state that stays true, never for an event that
//! could have been missed.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout};

/// Short enough to add nothing to the time of a test, long enough to leave a core to the processes under
/// test.
const POLL: Duration = Duration::from_millis(5);

/// Probes until there is a value, or fails after `limit` with an error that names what it waited for.
///
/// The limit covers the probe itself, so a hanging one ends too.
///
/// # Errors
/// The probe returned nothing within `limit`.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    eventually_ok(what, limit, async || {
        probe().await.ok_or_else(|| anyhow::anyhow!("not yet"))
    })
    .await
}

/// Like [`eventually`], for probes that give a reason while they fail: the error has the last reason.
///
/// # Errors
/// The probe did not succeed within `limit`.
pub async fn eventually_ok<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error),
            Err(_elapsed) => {}
        }
        if Instant::now() >= deadline {
            match last {
                Some(error) => bail!("waited {limit:?} for {what}: {error:#}"),
                None => bail!("waited {limit:?} for {what}: the probe never answered"),
            }
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests;
