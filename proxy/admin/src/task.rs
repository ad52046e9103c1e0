//! Tasks that do not die in silence.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::error;

/// Spawns a task on the current runtime and logs its panic, with the name it was given.
#[expect(clippy::disallowed_methods, reason = "this is the supervised spawn")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(
        Watched {
            name,
            finished: false,
            future: Box::pin(future),
        }
        .run(),
    )
}

struct Watched<F> {
    name: &'static str,
    finished: bool,
    future: std::pin::Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Watched<F> {
    async fn run(mut self) {
        self.future.as_mut().await;
        self.finished = true;
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        if !self.finished && std::thread::panicking() {
            error!(task = self.name, "a task panicked");
        }
    }
}
