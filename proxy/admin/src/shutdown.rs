//! The shutdown of a process in stages, visible through every [`Shutdown`], and the signals that begin it:
//! SIGTERM and SIGINT. Other signals that would kill it are ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

#[cfg(test)]
mod tests;

/// The stages, each of which includes those before it.
const RUNNING: u8 = 0;
/// Everything is served; clients and balancers learn that they should go elsewhere.
const LEAVING: u8 = 1;
/// A connection that carries nothing ends.
const DRAINING: u8 = 2;
/// Nothing new begins.
const STOPPING: u8 = 3;
/// What still runs ends now.
const CUTTING: u8 = 4;

/// Takes a process from stage to stage, and never back. A drop asks to stop.
#[derive(Debug)]
pub struct Trigger {
    stage: Arc<AtomicU8>,
    changed: watch::Sender<()>,
}

/// The stage of a process. Cheap to clone, and one load to ask.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: Arc<AtomicU8>,
    changed: watch::Receiver<()>,
}

/// A pair of the two ends.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let stage = Arc::new(AtomicU8::new(RUNNING));
    let (sender, receiver) = watch::channel(());
    let trigger = Trigger {
        stage: Arc::clone(&stage),
        changed: sender,
    };
    let shutdown = Shutdown {
        stage,
        changed: receiver,
    };
    (trigger, shutdown)
}

// === impl Trigger ===

impl Trigger {
    /// Says that the process is about to stop. It still serves everything.
    pub fn leave(&self) {
        self.reach(LEAVING);
    }

    /// Lets connections end that carry nothing.
    pub fn drain(&self) {
        self.reach(DRAINING);
    }

    /// Asks the process to stop: what runs may end, and nothing new begins.
    pub fn stop(&self) {
        self.reach(STOPPING);
    }

    /// Ends what still runs.
    pub fn cut(&self) {
        self.reach(CUTTING);
    }

    fn reach(&self, stage: u8) {
        self.stage.fetch_max(stage, Ordering::Release);
        self.changed.send_replace(());
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Shutdown ===

impl Shutdown {
    /// Whether clients should go elsewhere.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.has_reached(LEAVING)
    }

    /// Whether the process has been asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.has_reached(STOPPING)
    }

    /// Whether what still runs must end.
    #[must_use]
    pub fn is_cutting(&self) -> bool {
        self.has_reached(CUTTING)
    }

    /// Waits until clients should go elsewhere.
    pub async fn leaving(&mut self) {
        self.reached(LEAVING).await;
    }

    /// Waits until connections should end that carry nothing.
    pub async fn draining(&mut self) {
        self.reached(DRAINING).await;
    }

    /// Waits until the process is asked to stop.
    pub async fn requested(&mut self) {
        self.reached(STOPPING).await;
    }

    /// Waits until what still runs must end: for ever, once the trigger is gone.
    pub async fn cutting(&mut self) {
        self.reached(CUTTING).await;
    }

    fn has_reached(&self, stage: u8) -> bool {
        self.stage.load(Ordering::Acquire) >= stage
    }

    async fn reached(&mut self, stage: u8) {
        while !self.has_reached(stage) {
            // The stage is set before a change is announced, so none is missed.
            if self.changed.changed().await.is_err() && !self.has_reached(stage) {
                // No trigger is left to go further.
                return std::future::pending().await;
            }
        }
    }
}

/// What asks a process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM: an orchestrator, which tells balancers at the same time.
    Terminate,
    /// SIGINT: someone at a terminal, who waits for the end.
    Interrupt,
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
    pub async fn next(&mut self) -> Request {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => return Request::Terminate,
                _ = self.interrupt.recv() => return Request::Interrupt,
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
