//! The shutdown of a process: SIGTERM or SIGINT, visible through every [`Shutdown`]. Other signals that
//! would kill it are ignored.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

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

/// The signals that a process handles, from the moment that this is made: before, they kill it.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
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
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next SIGTERM or SIGINT. A closed terminal, a log rotation or a `reload` sends the
    /// others, which stop nothing.
    pub async fn next(&mut self) {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => "SIGHUP",
                _ = self.user1.recv() => "SIGUSR1",
                _ = self.user2.recv() => "SIGUSR2",
            };
            info!(
                signal,
                "signal ignored: files are read again when they change, without one"
            );
        }
    }
}
