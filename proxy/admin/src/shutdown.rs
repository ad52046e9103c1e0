//! The shutdown of a process: SIGTERM or SIGINT, visible through every [`Shutdown`].

use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// SIGTERM and SIGINT, from the moment that this is made: before, they kill the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The handler could not be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// The handler could not be installed.
pub async fn signalled() -> std::io::Result<()> {
    Signals::listen()?.next().await;
    Ok(())
}
