//! What was used of calendar quotas, between the publisher that knows it and the ConfigMap that keeps
//! it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use operator_controller::{Checkpoint, Client, Config, load_checkpoint};
use operator_publish::Publisher;
use proxy_admin::shutdown;
use tokio::sync::watch;
use tracing::warn;

/// An object may have 1 MiB; this leaves room for its metadata.
const LONGEST: usize = 900_000;

/// How soon the API server is asked again at the start.
const RETRY: Duration = Duration::from_secs(2);

/// Tells what is to be kept.
pub(crate) struct PublisherCheckpoint(pub(crate) Publisher);

impl Checkpoint for PublisherCheckpoint {
    fn text(&self) -> Option<String> {
        let text = self.0.checkpoint(LONGEST);
        text.inspect_err(|error| warn!(%error, "no checkpoint can be written"))
            .ok()
    }

    fn urgent(&self) -> watch::Receiver<u64> {
        self.0.departures()
    }
}

/// Gives the publisher what the operator before this one kept. Nothing is published before: replicas
/// would be told that nobody has used anything.
///
/// # Errors
/// We are to stop.
pub(crate) async fn restore(client: &Client, config: &Config, publisher: &Publisher) -> Result<()> {
    loop {
        match load_checkpoint(client, config).await {
            Ok(Some(text)) => {
                if let Err(error) = publisher.restore(&text) {
                    warn!(%error, "the checkpoint of counters is not understood");
                }
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Err(error) => warn!(%error, "no checkpoint of counters yet; asking again"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            signalled = shutdown::signalled() => {
                signalled.context("wait for signals")?;
                bail!("stopped while waiting for the API server");
            }
        }
    }
}
