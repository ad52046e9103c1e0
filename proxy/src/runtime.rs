//! The runtime of a process that serves a gateway.

use anyhow::{Context, Result};

/// Runs `serve` to its end on a new runtime, and waits for no task that is left. One worker is enough for the
/// tasks of the process: the gateway brings a runtime per core for its requests.
///
/// # Errors
/// The runtime cannot be started, or `serve` fails.
pub fn block_on(serve: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve);
    // A drop would wait for a page that is computed, or a name that is looked up.
    runtime.shutdown_background();
    ended
}
