//! One timer for all deadlines of a connection, one after the other.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

#[cfg(test)]
mod tests;

/// A timer that is moved as little as possible: at once only if its deadline comes nearer. A timer that is
/// armed for each wait makes tokio wake its own driver, which is a system call per wait.
///
/// It may still be armed for an earlier wait. It then fires, finds that its time has not come, and is moved.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Armed>);

#[derive(Debug)]
struct Armed {
    timer: Pin<Box<Sleep>>,
    /// The task that it wakes.
    task: Waker,
}

impl Alarm {
    /// Ready once `deadline` has passed. Reads no clock, and allocates at its first use only.
    pub(crate) fn poll_past(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = deadline.into();
        let Armed { timer, task } = self.0.get_or_insert_with(|| Armed {
            timer: Box::pin(sleep_until(deadline)),
            task: Waker::noop().clone(),
        });
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        } else if !timer.is_elapsed() && task.will_wake(cx.waker()) {
            // It knows all of that: a poll per event would be a part of its cost.
            return Poll::Pending;
        }
        task.clone_from(cx.waker());
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}
