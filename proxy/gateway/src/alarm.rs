//! One timer for all deadlines of a connection, one after the other.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::Sleep;

#[cfg(test)]
mod tests;

/// A timer that is moved as little as possible: at once only if its deadline comes nearer. A timer that is
/// armed for each wait makes tokio wake its own driver, which is a system call per wait.
///
/// It may still be armed for an earlier wait. It then fires, finds that its time has not come, and is moved.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `deadline` has passed. Reads no clock, and allocates at its first use only.
    pub(crate) fn poll_past(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = deadline.into();
        let made = || Box::pin(tokio::time::sleep_until(deadline));
        let sleep = self.0.get_or_insert_with(made);
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
