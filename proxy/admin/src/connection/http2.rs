//! HTTP/2: several requests at once, each answered by a task of its own, and none of them for ever.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::accepted::Accepted;
use super::leash::{Leash, Leashed};
use super::limits::{ConnectionError, Limits, close};
use super::streams::Streams;
use crate::memory::{Budget, CONNECTION};
use crate::shutdown::Shutdown;

#[cfg(test)]
mod tests;

/// How often the streams of a connection are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long a connection without a stream is not taken for idle: its first one is about to come, or the next.
const IDLE: Duration = Duration::from_secs(1);

/// How long the client of an idle connection has to close it, once it is asked to.
const GOODBYE: Duration = Duration::from_secs(2);

/// The tables of both compressions, the frames of 16 KB that are read and written, beside what any connection
/// costs.
const COST: usize = 4 * CONNECTION;

/// Looks at streams while there are any.
struct Watch {
    streams: Streams,
    timer: Pin<Box<Sleep>>,
    budget: Option<Arc<Budget>>,
    /// Ready when the connection, which is idle, should make room.
    room: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Why a connection takes no further request.
enum Pause {
    Ended(hyper::Result<()>),
    Room,
    Stopped,
}

/// Serves until the peer closes the connection, or a shutdown or want of memory and the end of its last
/// stream.
pub(super) async fn serve<I, F, R, B>(
    mut client: Accepted<I>,
    limits: &Limits,
    answer: F,
    mut shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>, Arc<Leash>) -> R,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let held = client.held.as_mut();
    if held.is_some_and(|held| !held.resize(COST)) {
        return Err(ConnectionError::Memory);
    }
    let budget = client.held.as_ref().map(|held| Arc::clone(held.budget()));
    let streams = Streams::default();
    let mut builder = http2::Builder::new(streams.clone());
    (limits.http2)(&mut builder);
    let mut watch = Watch::new(streams.clone(), budget);
    let service = service_fn(move |request| {
        let leash = streams.begin();
        let answered = answer(request, Arc::clone(&leash));
        async move {
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|body| Leashed::new(body, leash)))
        }
    });
    let served = builder.serve_connection(TokioIo::new(client.stream), service);
    let mut served = pin!(served);
    let mut stop = pin!(shutdown.requested());
    let pause = poll_fn(|cx| {
        if let Poll::Ready(ended) = served.as_mut().poll(cx) {
            return Poll::Ready(Pause::Ended(ended));
        }
        watch.poll(cx);
        if watch.poll_room(cx).is_ready() {
            return Poll::Ready(Pause::Room);
        }
        stop.as_mut().poll(cx).map(|()| Pause::Stopped)
    });
    let longest = match pause.await {
        Pause::Ended(ended) => return ended.map_err(ConnectionError::Http),
        Pause::Room => Some(GOODBYE),
        Pause::Stopped => limits.close,
    };
    served.as_mut().graceful_shutdown();
    let rest = poll_fn(|cx| {
        let ended = served.as_mut().poll(cx);
        watch.poll(cx);
        ended
    });
    close(rest, longest).await
}

// === impl Watch ===

impl Watch {
    fn new(streams: Streams, budget: Option<Arc<Budget>>) -> Self {
        Self {
            streams,
            timer: Box::pin(sleep_until(Instant::now() + LOOK)),
            budget,
            room: None,
        }
    }

    /// Ready when the connection is idle, and others need its memory.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(budget) = self.budget.as_ref().filter(|_| self.streams.is_empty()) else {
            self.room = None;
            return Poll::Pending;
        };
        let room = self.room.get_or_insert_with(|| {
            let budget = Arc::clone(budget);
            Box::pin(async move {
                sleep(IDLE).await;
                budget.room_is_needed().await;
            })
        });
        room.as_mut().poll(cx)
    }

    /// Asks for another poll only while there is a stream.
    fn poll(&mut self, cx: &mut Context<'_>) {
        while !self.streams.is_empty() && self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            self.streams.look(now);
            self.timer.as_mut().reset(now + LOOK);
        }
    }
}
