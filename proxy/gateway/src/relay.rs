//! The body of an answer on its way to the client: bytes as they arrive, watched for usage, and
//! settled at the end, whichever end it is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use memchr::memmem;
use proxy_admin::clock;
use proxy_api::{Reader, Stream};
use proxy_core::names::Code;
use smallvec::SmallVec;

use crate::exchange::Exchange;
use crate::upstream::AnswerBody;

/// A JSON answer larger than this is relayed without being kept for its usage.
const MAX_KEPT: usize = 16 << 20;

/// The body of any answer.
pub(crate) enum Payload {
    /// Of the gateway itself.
    Own(Option<Bytes>),
    /// Of a backend.
    Relayed(Box<Relay>),
}

/// An answer that broke off; the client's connection is cut so that it is not taken for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub(crate) struct BrokenOff(&'static str);

/// An answer being relayed.
pub(crate) struct Relay {
    upstream: Option<AnswerBody>,
    exchange: Box<Exchange>,
    watch: Watch,
    limits: Limits,
    /// Bytes that the watch releases at the end, or the last event of a broken stream.
    last: Option<Bytes>,
    broken: Option<BrokenOff>,
    /// hyper was given the chance to write what came before the break.
    flushed: bool,
}

/// What is looked for in the bytes.
pub(crate) enum Watch {
    /// Events of a stream.
    Events(Stream),
    /// One JSON object, whose usage is read at the end.
    Json(Kept, Reader),
    /// An error of the backend: bills nothing, unless its content filter refused the prompt.
    Error(Kept),
}

/// The frames of an answer that is read as a whole.
#[derive(Default)]
pub(crate) struct Kept {
    frames: SmallVec<[Bytes; 1]>,
    size: usize,
}

impl Watch {
    pub(crate) fn json(read_usage: Reader) -> Self {
        Self::Json(Kept::default(), read_usage)
    }

    pub(crate) fn error() -> Self {
        Self::Error(Kept::default())
    }
}

impl Kept {
    fn push(&mut self, data: &Bytes) {
        self.size = self.size.saturating_add(data.len());
        if self.size <= MAX_KEPT {
            self.frames.push(data.clone());
        }
    }

    /// The whole answer; `None` if it was too large to be kept.
    fn whole(&self) -> Option<Bytes> {
        (self.size <= MAX_KEPT).then(|| joined(&self.frames))
    }
}

/// Looks at an answer within the time for which it may be silent. A look costs a timer, and between two of
/// them an event costs no look at the clock; silence is noticed an eighth too late at most.
const LOOKS: u32 = 8;

/// How long an answer may be silent, and may last.
pub(crate) struct Limits {
    idle: Duration,
    deadline: Instant,
    /// Silent at least since then.
    silent_since: Instant,
    next_look: Instant,
    /// Bytes came after the last look.
    heard: bool,
}

impl Limits {
    pub(crate) fn new(idle: Duration, deadline: Instant, now: Instant) -> Self {
        Self {
            idle,
            deadline,
            silent_since: now,
            next_look: now + idle / LOOKS,
            heard: false,
        }
    }

    /// Ready when the answer has been silent or has lasted too long.
    fn poll_exceeded(
        &mut self,
        upstream: &mut AnswerBody,
        cx: &mut Context<'_>,
    ) -> Poll<&'static str> {
        loop {
            ready!(upstream.poll_past(cx, self.next_look.min(self.deadline)));
            // Not the time that was waited for: a client that reads slowly may have delayed the look.
            let now = clock::instant();
            if self.deadline <= now {
                return Poll::Ready("the request has reached its timeout");
            }
            if std::mem::take(&mut self.heard) {
                self.silent_since = now;
            } else if now >= self.silent_since + self.idle {
                return Poll::Ready("the backend has fallen silent");
            }
            self.next_look = now + self.idle / LOOKS;
        }
    }
}

impl Relay {
    pub(crate) fn new(
        upstream: AnswerBody,
        exchange: Box<Exchange>,
        watch: Watch,
        limits: Limits,
    ) -> Self {
        Self {
            upstream: Some(upstream),
            exchange,
            watch,
            limits,
            last: None,
            broken: None,
            flushed: false,
        }
    }

    fn pass(&mut self, data: Bytes) -> Bytes {
        match &mut self.watch {
            Watch::Events(stream) => stream.push(data),
            Watch::Json(kept, _) | Watch::Error(kept) => {
                kept.push(&data);
                data
            }
        }
    }

    /// The backend has ended its answer.
    fn complete(&mut self) -> Option<Bytes> {
        self.upstream = None;
        let now = clock::instant();
        let exchange = &mut self.exchange;
        match &mut self.watch {
            Watch::Events(stream) => {
                let rest = stream.finish();
                match stream.usage() {
                    Some(usage) => exchange.measured(usage, now),
                    None => exchange.estimated(stream.counted_output(), now),
                }
                exchange.end("ok", now);
                (!rest.is_empty()).then_some(rest)
            }
            Watch::Json(kept, read_usage) => {
                let found = kept.whole().and_then(|whole| read_usage(&whole, None));
                match found {
                    Some(usage) => exchange.measured(usage, now),
                    None => exchange.unknown(kept.size, now),
                }
                exchange.end("ok", now);
                None
            }
            Watch::Error(kept) => {
                let billed = exchange.record.status == 400
                    && memmem::find(&joined(&kept.frames), b"content_filter").is_some();
                if billed {
                    exchange.estimated(0, now);
                } else {
                    exchange.released(now);
                }
                exchange.end("upstream_error", now);
                None
            }
        }
    }

    /// The backend broke off, or took too long: settle, and send a stream's client an error event in
    /// its dialect before the connection is cut.
    fn break_off(&mut self, code: Code, why: &'static str) -> Option<Bytes> {
        self.upstream = None;
        self.broken = Some(BrokenOff(why));
        let now = clock::instant();
        let exchange = &mut self.exchange;
        match &mut self.watch {
            Watch::Events(stream) => {
                let mut event = BytesMut::from(&stream.finish()[..]);
                match stream.usage() {
                    Some(usage) => exchange.measured(usage, now),
                    None => exchange.estimated(stream.counted_output(), now),
                }
                exchange.end(code.as_str(), now);
                if stream.is_done() {
                    return None;
                }
                // A broken event before it must not swallow this one.
                event.extend_from_slice(b"\n\n");
                event.extend_from_slice(&exchange.record.dialect().error_event(code, why));
                Some(event.freeze())
            }
            Watch::Json(kept, _) => {
                exchange.unknown(kept.size, now);
                exchange.end(code.as_str(), now);
                None
            }
            Watch::Error(_) => {
                exchange.released(now);
                exchange.end(code.as_str(), now);
                None
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            if let Some(last) = self.last.take() {
                return Poll::Ready(Some(Ok(Frame::data(last))));
            }
            let Some(upstream) = &mut self.upstream else {
                if self.broken.is_some() && !std::mem::replace(&mut self.flushed, true) {
                    // An error makes hyper drop what it has not written; pending, it writes.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(self.broken.take().map(Err));
            };
            match Pin::new(&mut *upstream).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.limits.heard = true;
                    // Trailers end here: no client of these APIs knows any.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    let out = self.pass(data);
                    if self.upstream.as_ref().is_some_and(Body::is_end_stream) {
                        // hyper does not ask again after the last byte of a known length.
                        self.last = self.complete();
                    }
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out))));
                    }
                }
                Poll::Ready(Some(Err(_error))) => {
                    self.last = self.break_off(Code::UpstreamFailed, "the backend broke off");
                }
                Poll::Ready(None) => self.last = self.complete(),
                Poll::Pending => {
                    let why = ready!(self.limits.poll_exceeded(upstream, cx));
                    self.last = self.break_off(Code::UpstreamTimeout, why);
                }
            }
        }
    }
}

impl Drop for Relay {
    /// The client has hung up, unless the exchange has ended: it settles at the output so far.
    fn drop(&mut self) {
        if let Watch::Events(stream) = &self.watch {
            self.exchange.progress(stream.counted_output());
        }
    }
}

fn joined(frames: &[Bytes]) -> Bytes {
    match frames {
        [] => Bytes::new(),
        [only] => only.clone(),
        many => many.concat().into(),
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            // hyper must poll the end, where the exchange is settled.
            Self::Relayed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Relayed(relay) => match (&relay.watch, &relay.upstream) {
                (Watch::Json(..) | Watch::Error(_), Some(upstream)) => upstream.size_hint(),
                _ => SizeHint::default(),
            },
        }
    }
}

/// Joins a refusal to the type of all bodies.
impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Own(Some(bytes))
    }
}
