//! The long-lived tasks of a process, with one owner: each has a name, they stop in the reverse order of
//! their starts, and a panic is seen.
//!
//! Refuses to restart a task: a task that ends early is a defect, and says so in the log.

use tokio::task::JoinHandle;
use tracing::{debug, error};

use crate::shutdown::{self, Shutdown, Trigger};
use crate::task;

#[cfg(test)]
mod tests;

/// The tasks, in the order of their starts. Dropping it asks all of them to stop and waits for none.
#[derive(Debug, Default)]
pub struct Background {
    tasks: Vec<Task>,
}

#[derive(Debug)]
struct Task {
    name: &'static str,
    trigger: Trigger,
    handle: JoinHandle<()>,
}

impl Background {
    /// Starts a task, which runs until its [`Shutdown`]. What it needs must have been started before.
    /// Call it within a runtime.
    pub fn start<F>(&mut self, name: &'static str, task: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (trigger, shutdown) = shutdown::channel();
        let handle = task::spawn(name, task(shutdown));
        self.tasks.push(Task {
            name,
            trigger,
            handle,
        });
    }

    /// Stops the tasks one after the other, the last one first: each may use until its end what was
    /// started before it. A task bounds its own end.
    pub async fn stop(mut self) {
        while let Some(task) = self.tasks.pop() {
            if task.handle.is_finished() {
                error!(task = task.name, "a background task ended before its time");
            }
            task.trigger.stop();
            match task.handle.await {
                Ok(()) => debug!(task = task.name, "background task stopped"),
                Err(error) => error!(task = task.name, %error, "a background task was cut short"),
            }
        }
    }
}
