//! HTTP/1.1: requests one after the other, and long pauses between them.
//!
//! hyper keeps its state and its buffers, some 18 KB, for as long as a connection is open, and most
//! connections of clients' pools are idle. An idle one is taken apart here until its next byte comes.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until};

use super::accepted::Accepted;
use super::leash::Leash;
use super::limits::{ConnectionError, Limits, close};
use crate::memory::{Place, Rank};
use crate::shutdown::Shutdown;

mod activity;
mod stream;

use activity::{Activity, Answer};
use stream::Rewound;

/// How often a connection looks whether it is idle. Long enough that a busy one stays together between
/// two requests, short enough that a burst of connections is soon small again.
const LOOK: Duration = Duration::from_millis(500);
/// The same while there are many connections: an idle one is to make room soon.
const TIGHT_LOOK: Duration = Duration::from_millis(100);
/// How soon a client may have answered a question, at the earliest.
const SOON: Duration = Duration::from_millis(20);
/// How long a head may take while there are many connections. A head comes in one piece, or in a few.
const TIGHT_HEAD: Duration = Duration::from_secs(3);

/// How long a connection has been without a new request.
struct Quiet {
    timer: Pin<Box<Sleep>>,
    /// The timer will wake the task.
    registered: bool,
    since: Instant,
    /// Requests at the last look.
    begun: u64,
    /// A part of the next head came then, so the connection stays together.
    amid_head: Option<Instant>,
    place: Option<Place>,
    /// The connection may be asked to make room.
    stands: bool,
}

/// Why a connection is polled no further.
enum Pause {
    Ended(hyper::Result<()>),
    Idle,
    Room,
    Late,
    Overdue,
    Stopped,
}

/// Serves until the peer closes the connection, `head` passes without a request, or a shutdown. From the first
/// stage of that on each answer says `connection: close`, so that its client takes another connection for
/// the next request.
pub(super) async fn serve<I, F, R, B, E>(
    client: Accepted<I>,
    limits: &Limits,
    answer: F,
    refuse: E,
    mut shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>, Arc<Leash>) -> R,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    E: Fn(StatusCode) -> Option<Bytes> + Unpin,
{
    let activity = Arc::new(Activity::default());
    let mut quiet = Quiet::new(client.room.as_ref().map(|room| room.place().clone()));
    let asked = &shutdown.clone();
    let mut service = service_fn(|mut request: Request<Incoming>| {
        let running = activity.begin(&mut request);
        let answered = answer(request, Arc::clone(&activity.leash));
        async move {
            let mut response = answered.await;
            if asked.is_leaving() {
                close_after(&mut response);
            }
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, running)))
        }
    });
    let mut stop = pin!(shutdown.requested());
    let mut io = Rewound::new(client, &activity, limits, refuse);
    loop {
        // Boxed, so that nothing of it is left while it is taken apart.
        let mut connection = Box::new(limits.http1.serve_connection(TokioIo::new(io), service));
        let pause = poll_fn(|cx| {
            if asked.is_requested() {
                return Poll::Ready(Pause::Stopped);
            }
            if let Poll::Ready(ended) = activity.turn(|| Pin::new(&mut *connection).poll(cx)) {
                return Poll::Ready(Pause::Ended(ended));
            }
            // Once is enough for a stage: it wakes the same task, which asks above.
            if (!quiet.registered || asked.is_leaving()) && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Pause::Stopped);
            }
            if quiet.poll_asked(cx, &activity).is_ready() {
                return Poll::Ready(Pause::Room);
            }
            quiet.poll(cx, &activity, limits.head)
        });
        match pause.await {
            Pause::Ended(ended) => {
                let mut io = connection.into_parts().io.into_inner();
                if !io.is_cut {
                    tokio::select! {
                        () = limits.lingers.linger(&mut io.client.stream) => {}
                        () = &mut stop => {}
                    }
                }
                return ended.map_err(ConnectionError::Http);
            }
            Pause::Late => return Err(ConnectionError::Silent),
            Pause::Overdue => return Err(ConnectionError::Overdue),
            Pause::Stopped => {
                Pin::new(&mut *connection).graceful_shutdown();
                return close(finish(connection, &activity, asked.clone()), limits.close).await;
            }
            Pause::Room => return Ok(()),
            Pause::Idle => {}
        }
        let parts = connection.into_parts();
        (io, service) = (parts.io.into_inner(), parts.service);
        io.before = parts.read_buf;
        activity.head.lock().clear();
        quiet.amid_head = (!io.before.is_empty()).then(Instant::now);
        quiet.stand();
        if quiet.amid_head.is_none() {
            io.rest();
            let late = quiet.since + limits.head;
            io.before = tokio::select! {
                biased;
                first = io.first_byte() => match first.map_err(ConnectionError::Greeting)? {
                    Some(first) => first,
                    None => return Ok(()),
                },
                () = &mut stop => {
                    return io.client.stream.shutdown().await.map_err(ConnectionError::Greeting);
                }
                () = quiet.asked() => return Ok(()),
                () = sleep_until(late) => return Err(ConnectionError::Silent),
            };
            quiet.begin();
        }
        quiet.registered = false;
    }
}

/// Lets a response be the last of its connection.
fn close_after<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// The rest of a connection that takes no further request. A cut wakes it once, so that the answer sees that it
/// must end.
async fn finish(
    mut connection: Box<impl Future<Output = hyper::Result<()>> + Unpin>,
    activity: &Activity,
    mut shutdown: Shutdown,
) -> hyper::Result<()> {
    let mut cut = pin!(shutdown.cutting());
    let mut is_cut = false;
    poll_fn(|cx| {
        is_cut = is_cut || cut.as_mut().poll(cx).is_ready();
        activity.turn(|| Pin::new(&mut *connection).poll(cx))
    })
    .await
}

// === impl Quiet ===

impl Quiet {
    /// A new connection, which is silent.
    fn new(place: Option<Place>) -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(sleep_until(now + LOOK)),
            registered: false,
            since: now,
            begun: 0,
            amid_head: None,
            stands: place.is_some(),
            place,
        }
    }

    /// There is no request. A connection that has had none keeps its place.
    fn stand(&mut self) {
        if let Some(place) = self.place.as_ref().filter(|_| !self.stands) {
            place.stand(Rank::Idle);
            self.stands = true;
        }
    }

    /// A head begins: its connection is not asked before others that do nothing.
    fn begin(&mut self) {
        if self.begun > 0 {
            self.leave();
        }
    }

    fn leave(&mut self) {
        if let Some(place) = &self.place {
            place.leave();
        }
        self.stands = false;
    }

    /// Ready when a connection without a request should make room.
    fn poll_asked(&mut self, cx: &mut Context<'_>, activity: &Activity) -> Poll<()> {
        if !self.stands {
            return Poll::Pending;
        }
        if activity.begun() != self.begun || !activity.is_idle() {
            self.leave();
            return Poll::Pending;
        }
        match &self.place {
            Some(place) => place.poll_asked(cx),
            None => Poll::Pending,
        }
    }

    /// The same while the connection is taken apart.
    async fn asked(&self) {
        match &self.place {
            Some(place) => place.asked().await,
            None => std::future::pending().await,
        }
    }

    /// Looks once in a while: the timer is polled when it has fired, not each time.
    fn poll(&mut self, cx: &mut Context<'_>, activity: &Activity, head: Duration) -> Poll<Pause> {
        if activity.takes_soon() {
            self.timer.as_mut().reset(Instant::now() + SOON);
            self.registered = false;
        }
        if self.registered && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.registered = true;
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let is_crowded = self.is_crowded();
            let pause = if is_crowded { TIGHT_LOOK } else { LOOK };
            self.timer.as_mut().reset(now + pause);
            let begun = activity.begun();
            if !activity.is_idle() && activity.leash.is_overdue(now) {
                return Poll::Ready(Pause::Overdue);
            }
            if activity.is_running() {
                activity.look();
                cx.waker().wake_by_ref();
            }
            if begun != self.begun || !activity.is_idle() {
                (self.begun, self.since, self.amid_head) = (begun, now, None);
            } else if now.saturating_duration_since(self.since) >= head
                || self.is_slow(now) && is_crowded
            {
                return Poll::Ready(Pause::Late);
            } else if self.amid_head.is_none() {
                return Poll::Ready(Pause::Idle);
            }
        }
    }

    fn is_crowded(&self) -> bool {
        let budget = self.place.as_ref().map(Place::budget);
        budget.is_some_and(|budget| budget.is_crowded())
    }

    /// Whether a head has been on its way for longer than others should wait for its memory.
    fn is_slow(&self, now: Instant) -> bool {
        self.amid_head
            .is_some_and(|begun| now.saturating_duration_since(begun) >= TIGHT_HEAD)
    }
}
