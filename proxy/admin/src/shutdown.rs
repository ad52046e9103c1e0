//! The shutdown of a process: SIGTERM or SIGINT, visible through every [`Shutdown`].

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Asks a process to stop. A drop asks too.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Resolves when the process is asked to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A pair of the two ends.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks the process to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether the process has been asked already.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the process is asked, or the trigger is gone.
    pub async fn requested(&mut self) {
        // An error means that the trigger was dropped, which asks as well.
        self.0.wait_for(|asked| *asked).await.ok();
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// The handler could not be installed.
pub async fn signalled() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
