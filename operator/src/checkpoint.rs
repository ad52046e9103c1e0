//! The checkpoint of counters at the start of the operator.

use std::time::Duration;

use anyhow::{Result, bail};
use operator_controller::{Client, Config, load_checkpoint};
use operator_publish::Publisher;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Signals;
use tracing::warn;

/// Pause between two attempts at the start: the API server may be starting too.
const RETRY: Duration = Duration::from_secs(2);

/// Restores the checkpoint of the operator before this one. Nothing may be published before:
/// replicas would receive an empty carryover.
///
/// # Errors
/// A signal stops the process.
pub(crate) async fn restore(
    client: &Client,
    config: &Config,
    publisher: &Publisher,
    signals: &mut Signals,
) -> Result<()> {
    loop {
        match load_checkpoint(client, config).await {
            Ok(Some(text)) => {
                if let Err(error) = publisher.restore(&text) {
                    warn!(%error, "the checkpoint of counters cannot be read");
                }
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                warn!(error = %chain(&error), "the checkpoint of counters could not be loaded yet")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _signal = signals.next() => bail!("stopped while waiting for the API server"),
        }
    }
}
