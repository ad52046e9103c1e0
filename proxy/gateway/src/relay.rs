//! The body of an answer on its way to the client: bytes as they arrive, watched for usage, and
//! settled at the end, whichever end it is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use proxy_admin::clock;
use proxy_api::coding::Undecodable;
use proxy_core::names::Code;

use crate::aftermath;
use crate::exchange::Exchange;
use crate::follow::Background;
use crate::live::LiveRule;
use crate::marking::Marking;
use crate::upstream::AnswerBody;
use crate::watch::Watch;

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
    /// For what a backend keeps.
    marking: Option<Box<Marking>>,
    /// For a response that goes on in the background.
    background: Option<Box<Background>>,
    /// Bytes that the watch releases at the end, or the last event of a broken stream.
    last: Option<Bytes>,
    broken: Option<BrokenOff>,
    /// hyper was given the chance to write what came before the break.
    flushed: bool,
}

const UNDECODABLE: &str = "the answer cannot be decoded";
const CUT: &str = "the gateway shuts down; ask again, another replica serves";

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
        marking: Option<Box<Marking>>,
        background: Option<Box<Background>>,
    ) -> Self {
        Self {
            upstream: Some(upstream),
            exchange,
            watch,
            limits,
            marking,
            background,
            last: None,
            broken: None,
            flushed: false,
        }
    }

    /// The rule that the answer comes by.
    pub(crate) fn rule(&self) -> Option<&Arc<LiveRule>> {
        self.exchange.record.rule.as_ref()
    }

    /// The answer is whole. The connection may not be at its end.
    fn complete(&mut self) -> Option<Bytes> {
        if let Some(upstream) = self.upstream.take() {
            aftermath::late_end(upstream);
        }
        let Ok(out) = self.last_marked() else {
            return self.break_off(Code::UpstreamFailed, UNDECODABLE);
        };
        self.hand_over();
        let rest = self.watch.complete(&mut self.exchange, clock::instant());
        match rest {
            Some(rest) if !out.is_empty() => Some([out, rest].concat().into()),
            rest => rest.or_else(|| (!out.is_empty()).then_some(out)),
        }
    }

    /// What the end leaves of an answer that came coded and is marked.
    fn last_marked(&mut self) -> Result<Bytes, Undecodable> {
        let Some(marking) = &mut self.marking else {
            return Ok(Bytes::new());
        };
        let rest = marking.finish()?;
        let out = self.watch.pass(rest, &mut self.exchange)?;
        self.exchange.record.passed(out.len());
        Ok(out)
    }

    /// Lets a response that goes on without this answer be followed; the exchange that is left has ended.
    fn hand_over(&mut self) {
        let id = self.marking.as_deref().and_then(Marking::id);
        if let Some(id) = id
            && self.background.is_some()
            && !self.watch.tells_usage()
            && let Some(background) = self.background.take()
        {
            background.follow(self.exchange.taken(), id);
        }
    }

    /// The backend broke off or took too long, or the gateway stops: settle, and tell a stream's client before the
    /// connection is cut.
    fn break_off(&mut self, code: Code, why: &'static str) -> Option<Bytes> {
        self.upstream = None;
        self.broken = Some(BrokenOff(why));
        self.hand_over();
        let now = clock::instant();
        self.watch.broken(&mut self.exchange, code, why, now)
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
                    let data = match &mut self.marking {
                        Some(marking) => marking.pass(data),
                        None => Ok(data),
                    };
                    if let Some(endpoint) = &self.exchange.record.endpoint {
                        endpoint.heard();
                    }
                    let out = data.and_then(|data| self.watch.pass(data, &mut self.exchange));
                    let Ok(out) = out else {
                        self.last = self.break_off(Code::UpstreamFailed, UNDECODABLE);
                        continue;
                    };
                    self.exchange.record.passed(out.len());
                    if self.watch.is_done()
                        || self.upstream.as_ref().is_some_and(Body::is_end_stream)
                    {
                        // hyper does not ask again after the last byte of a known length.
                        self.last = self.complete();
                    }
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out))));
                    }
                }
                Poll::Ready(Some(Err(_error))) => {
                    self.exchange.body_ended(false);
                    self.last = self.break_off(Code::UpstreamFailed, "the backend broke off");
                }
                Poll::Ready(None) => self.last = self.complete(),
                Poll::Pending if self.exchange.core().is_cut() => {
                    self.last = self.break_off(Code::ShuttingDown, CUT);
                }
                Poll::Pending => {
                    let why = ready!(self.limits.poll_exceeded(upstream, cx));
                    self.last = self.break_off(Code::UpstreamTimeout, why);
                }
            }
        }
    }
}

impl Drop for Relay {
    /// The client has hung up or is cut off, unless the exchange has ended.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.hand_over();
        if !self.exchange.is_ended() && self.exchange.core().is_cut() {
            // Its client takes too little to see the last word.
            self.break_off(Code::ShuttingDown, CUT);
        } else if !self.exchange.is_ended() {
            let watch = std::mem::replace(&mut self.watch, Watch::Nothing);
            let exchange = self.exchange.taken();
            aftermath::within(exchange, self.upstream.take(), watch);
        }
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
                (Watch::Json(..) | Watch::Error(_), Some(upstream)) if relay.marking.is_none() => {
                    upstream.size_hint()
                }
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
