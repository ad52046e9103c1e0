//! HTTP/2: several requests at once, each answered by a task of its own, and none of them for ever.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
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
use super::leash::Leash;
use super::leashed::Leashed;
use super::limits::{ConnectionError, Limits, close};
use super::streams::Streams;
use crate::memory::{CONNECTION, Made, Place, Rank};
use crate::shutdown::Shutdown;

mod frames;
#[cfg(test)]
mod tests;
mod wire;

use wire::Wire;

/// How often the streams of a connection are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long a connection without a stream is not taken for idle: its first one is about to come, or the next.
const IDLE: Duration = Duration::from_secs(1);
/// The same while there are many connections.
const TIGHT_IDLE: Duration = Duration::from_millis(100);

/// How long the client of an idle connection has to close it, once it is asked to.
const GOODBYE: Duration = Duration::from_millis(250);

/// How long a draining connection without a stream waits for its client to take what came last: a GOAWAY that is read
/// with it makes python-h2 fail at its next acknowledgement of data.
const PARTING: Duration = Duration::from_millis(250);

/// The tables of both compressions and the buffers of frames, beside what any connection costs: 21 KB are
/// resident before the first request. What streams need more is counted with each request.
const COST: usize = 2 * CONNECTION;

/// Looks at streams while there are any.
struct Watch {
    streams: Streams,
    timer: Pin<Box<Sleep>>,
    place: Option<Place>,
    state: State,
    /// Since no stream has been open, while the connection drains.
    parting: Option<Pin<Box<Sleep>>>,
}

/// What a connection does, for those that need its room.
enum State {
    /// No request has come.
    Silent,
    Busy,
    /// Its last stream has ended: another one may follow.
    Quiet(Pin<Box<Sleep>>),
    Idle,
}

/// Why a connection takes no further request.
enum Pause {
    Ended(hyper::Result<()>),
    Room,
    Stopped,
}

/// Serves until the peer closes the connection, or a shutdown or want of memory and the end of its last
/// stream.
///
/// While it drains, a GOAWAY goes out shortly after the end of the last stream, and new streams are served until
/// then: some clients (python-h2) give up every stream at a GOAWAY, also those that it leaves alone.
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
    let place = client.room.as_ref().map(|room| room.place().clone());
    if let Some(room) = &mut client.room {
        match room.grow(COST).await {
            Made::Room => {}
            Made::GivesWay => return Ok(()),
            Made::None => return Err(ConnectionError::Memory),
        }
    }
    let streams = Streams::default();
    let mut builder = http2::Builder::new(streams.clone());
    (limits.http2)(&mut builder);
    let mut watch = Watch::new(streams.clone(), place);
    let service = service_fn(move |request| {
        let running = streams.begin();
        let answered = answer(request, Arc::clone(&running.leash));
        async move {
            running.leash.answered_here().await;
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|body| Leashed::new(body, running)))
        }
    });
    let wire = Wire::new(client, COST, &limits.faults);
    let served = builder.serve_connection(TokioIo::new(wire), service);
    let mut served = pin!(served);
    let asked = shutdown.clone();
    let (mut draining, mut cutting) = (asked.clone(), asked);
    let mut stop = pin!(shutdown.requested());
    let mut drain = pin!(draining.draining());
    let mut is_draining = false;
    let pause = poll_fn(|cx| {
        if let Poll::Ready(ended) = served.as_mut().poll(cx) {
            return Poll::Ready(Pause::Ended(ended));
        }
        watch.poll(cx);
        if watch.poll_room(cx).is_ready() {
            return Poll::Ready(Pause::Room);
        }
        is_draining = is_draining || drain.as_mut().poll(cx).is_ready();
        if is_draining && watch.poll_parting(cx).is_ready() {
            return Poll::Ready(Pause::Stopped);
        }
        stop.as_mut().poll(cx).map(|()| Pause::Stopped)
    });
    let longest = match pause.await {
        Pause::Ended(ended) => return ended.map_err(ConnectionError::Http),
        // A GOAWAY goes out, and nothing is waited for: none of its requests can be on its way for long.
        Pause::Room if watch.streams.is_silent() => Some(Duration::ZERO),
        Pause::Room => Some(GOODBYE),
        Pause::Stopped => limits.close,
    };
    served.as_mut().graceful_shutdown();
    let mut cut = pin!(cutting.cutting());
    let mut is_cut = false;
    let rest = poll_fn(|cx| {
        if !is_cut && cut.as_mut().poll(cx).is_ready() {
            is_cut = true;
            watch.streams.wake();
        }
        let ended = served.as_mut().poll(cx);
        watch.poll(cx);
        ended
    });
    close(rest, longest).await
}

// === impl Watch ===

impl Watch {
    fn new(streams: Streams, place: Option<Place>) -> Self {
        Self {
            streams,
            timer: Box::pin(sleep_until(Instant::now() + LOOK)),
            place,
            state: State::Silent,
            parting: None,
        }
    }

    /// Ready when no stream has been open for a while.
    fn poll_parting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.streams.poll_ended(cx).is_pending() {
            self.parting = None;
            return Poll::Pending;
        }
        let parting = || Box::pin(sleep(PARTING));
        self.parting.get_or_insert_with(parting).as_mut().poll(cx)
    }

    /// Ready when the connection does nothing, and others need its room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(place) = &self.place else {
            return Poll::Pending;
        };
        if !self.streams.is_empty() {
            if !matches!(self.state, State::Busy) {
                place.leave();
                self.state = State::Busy;
            }
            return Poll::Pending;
        }
        match &mut self.state {
            State::Silent if self.streams.is_silent() => {}
            State::Silent | State::Busy => {
                place.leave();
                let is_crowded = place.budget().is_crowded();
                let pause = if is_crowded { TIGHT_IDLE } else { IDLE };
                self.state = State::Quiet(Box::pin(sleep(pause)));
                return self.poll_room(cx);
            }
            State::Quiet(pause) => {
                ready!(pause.as_mut().poll(cx));
                place.stand(Rank::Idle);
                self.state = State::Idle;
            }
            State::Idle => {}
        }
        place.poll_asked(cx)
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
