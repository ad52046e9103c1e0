//! The exchanges of one connection on HTTP/2, each a task of its own.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::leash::{Leash, Seen};
use crate::task;

/// Runs the exchanges of one connection, and ends those that are overdue or stalled.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Of the request that hyper has taken, and is about to run.
    latest: Option<Arc<Leash>>,
    /// One has come.
    has_begun: bool,
    running: Vec<Stream>,
    /// Those that have begun and not ended.
    unended: usize,
    /// Of the connection, if it waits for the end of the last one.
    waits: Option<Waker>,
}

#[derive(Debug)]
struct Stream {
    leash: Arc<Leash>,
    task: AbortHandle,
    seen: Seen,
}

/// One exchange, until its answer has been sent or dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) leash: Arc<Leash>,
    streams: Streams,
}

// === impl Streams ===

impl Streams {
    /// A request has come: hyper runs it next.
    pub(super) fn begin(&self) -> Running {
        let leash = Arc::new(Leash::default());
        let mut open = self.0.lock();
        open.latest = Some(Arc::clone(&leash));
        open.has_begun = true;
        open.unended += 1;
        Running {
            leash,
            streams: self.clone(),
        }
    }

    /// Ready when no exchange runs.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut open = self.0.lock();
        if open.unended == 0 {
            return Poll::Ready(());
        }
        open.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Lets each answer look at its state.
    pub(super) fn wake(&self) {
        for stream in &self.0.lock().running {
            stream.leash.wake();
        }
    }

    /// Whether no request has come yet.
    pub(super) fn is_silent(&self) -> bool {
        !self.0.lock().has_begun
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().running.is_empty()
    }

    /// Ends what is overdue or stalled: its task goes with its answer, and HTTP/2 resets the stream.
    pub(super) fn look(&self, now: Instant) {
        self.0.lock().running.retain_mut(|stream| {
            if stream.task.is_finished() {
                return false;
            }
            let is_over =
                stream.leash.is_overdue(now) || stream.seen.is_stalled(&stream.leash, now);
            if is_over {
                stream.task.abort();
            }
            !is_over
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        open.unended = open.unended.saturating_sub(1);
        if open.unended == 0
            && let Some(connection) = open.waits.take()
        {
            connection.wake();
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let task = task::spawn("stream of a client", future).abort_handle();
        let mut open = self.0.lock();
        if let Some(leash) = open.latest.take() {
            let seen = Seen::new(Instant::now());
            open.running.push(Stream { leash, task, seen });
        }
    }
}
