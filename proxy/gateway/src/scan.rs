//! What reads a body from end to end. A large one has a thread of its own: the core goes on with others
//! meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use proxy_api::{Body, Call, Media, media};
use proxy_core::names::Code;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::answer::{Refusal, refuse};
use crate::fields::Field;

/// From this size on it takes longer than the way to another thread and back: 0.3 ms.
const APART: usize = 1 << 20;

/// The threads that scan, at most as many as there are cores. Who finds none waits.
#[derive(Clone, Debug)]
pub(crate) struct Scans(Arc<Semaphore>);

impl Scans {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads.max(1))))
    }

    /// What a body of this content type says about itself.
    pub(crate) async fn body(
        &self,
        call: &'static Call,
        kind: Field<'_>,
        bytes: &Bytes,
        in_path: bool,
    ) -> Result<Body, Box<Refusal>> {
        let kind = kind.first().and_then(|kind| kind.to_str().ok());
        let scanned = if bytes.len() < APART {
            call.scan(kind, bytes, in_path)
        } else {
            let (kind, bytes) = (kind.map(str::to_owned), bytes.clone());
            // Boxed, or every request would be as large.
            Box::pin(self.apart(move || call.scan(kind.as_deref(), &bytes, in_path))).await?
        };
        scanned.map_err(|why| refuse(Code::InvalidRequest, why.0))
    }

    /// The parts of its prompt that are no text, for a model and the size of its context.
    pub(crate) async fn media<'a>(
        &self,
        bytes: &Bytes,
        body: &Body,
        of_model: impl FnOnce() -> (&'a str, Option<u64>),
    ) -> Result<Media, Box<Refusal>> {
        if !body.has_media {
            return Ok(Media::default());
        }
        let (model, window) = of_model();
        if bytes.len() < APART {
            return Ok(media(bytes, model, window));
        }
        let (bytes, model) = (bytes.clone(), model.to_owned());
        Box::pin(self.apart(move || media(&bytes, &model, window))).await
    }

    /// Refers to the bytes that are held already, so that nothing more is.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Box<Refusal>> {
        let failed = || refuse(Code::Internal, "the body could not be scanned");
        // The semaphore is never closed.
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let turn = turn.map_err(|_closed| failed())?;
        let done = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(|_panicked| failed())
    }
}
