//! Streams on their way to the caller: at their pace, up to where a fault stops them; and the body
//! type of all responses.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::{
    faults::{Fault, Spacing},
    record::Outcome,
    sse::{self, Events, Next},
    ticket::Ticket,
};

/// A response's body.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Full<Bytes>),
    /// Some bytes, then a dropped connection.
    Cut {
        left: Option<Bytes>,
        flushed: bool,
    },
    Stream(Box<Stream>),
}

/// Where and how a fault ends a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    after: u64,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Cut,
    Truncate,
    Hang,
    Error,
}

/// The times between what a stream writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two token chunks.
    pub(crate) interval: Duration,
    /// Before `[DONE]`, and before the end of the body.
    pub(crate) end_delay: Duration,
}

/// A stream on its way to the caller.
#[derive(Debug)]
pub(crate) struct Stream {
    events: Box<dyn Events>,
    ticket: Ticket,
    pace: Pace,
    /// What was written before is on its way.
    apart: bool,
    /// Due time of `[DONE]`, then of the end.
    end: Option<Pin<Box<Sleep>>>,
    ended: bool,
    /// Due time of the next token; none before the first.
    timer: Option<Pin<Box<Sleep>>>,
    /// Due time of an event that says itself when it is there.
    due: Option<Pin<Box<Sleep>>>,
    /// When the model has thought enough for the next event.
    thinking: Option<Pin<Box<Sleep>>>,
    stop: Option<Stop>,
    spacing: Option<Spacing>,
    /// The rest of what a fault does: drop the connection once all before it is flushed.
    cutting: bool,
    flushed: bool,
}

// === impl Body ===

impl Body {
    pub(crate) fn cut(left: Bytes) -> Self {
        Self::Cut {
            left: Some(left).filter(|left| !left.is_empty()),
            flushed: false,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Cut { left, flushed } => match left.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => poll_cut(flushed, cx),
            },
            Self::Stream(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Cut { .. } => false,
            Self::Stream(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Cut { .. } | Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// An error makes hyper drop the connection with what it still buffers. So it comes one poll later:
/// hyper flushes when a body is pending.
fn poll_cut<T>(flushed: &mut bool, cx: &Context<'_>) -> Poll<Option<io::Result<T>>> {
    if !std::mem::replace(flushed, true) {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(Some(Err(io::Error::other("cut by a fault"))))
}

// === impl Stop ===

impl Stop {
    pub(crate) fn of(fault: &Fault) -> Option<Self> {
        let how = match fault {
            Fault {
                stream_error: true, ..
            } => How::Error,
            Fault { hang: true, .. } => How::Hang,
            Fault { truncate: true, .. } => How::Truncate,
            Fault {
                cut_after_chunks: Some(_),
                ..
            } => How::Cut,
            _ => return None,
        };
        Some(Self {
            after: fault.cut_after_chunks.unwrap_or(0),
            how,
        })
    }
}

// === impl Stream ===

impl Stream {
    pub(crate) fn new(
        events: Box<dyn Events>,
        mut ticket: Ticket,
        pace: Pace,
        stop: Option<Stop>,
    ) -> Self {
        // It may never be asked for anything.
        if events.upcoming() == Next::End {
            ticket.close(Outcome::Answered);
        }
        Self {
            events,
            ticket,
            pace,
            apart: true,
            end: None,
            ended: false,
            timer: None,
            due: None,
            thinking: None,
            stop,
            spacing: None,
            cutting: false,
            flushed: false,
        }
    }

    /// Its events, written in another way.
    pub(crate) fn spaced(self, spacing: Option<Spacing>) -> Self {
        Self { spacing, ..self }
    }

    fn is_over(&self) -> bool {
        self.has_ended() && !self.cutting && (self.ended || self.pace.end_delay.is_zero())
    }

    fn has_ended(&self) -> bool {
        self.events.upcoming() == Next::End
    }

    /// Writes the next event apart from the one before: hyper writes what it has while a body is pending.
    fn poll_apart(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pace.end_delay.is_zero() {
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut self.apart, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if matches!(self.events.upcoming(), Next::Done | Next::End) {
            let end = || Box::pin(sleep(self.pace.end_delay));
            ready!(self.end.get_or_insert_with(end).as_mut().poll(cx));
            self.end = None;
        }
        Poll::Ready(())
    }

    /// Waits for an event that is not there yet.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wait) = self.events.due().map(|due| self.ticket.until(due)) else {
            return Poll::Ready(());
        };
        if !wait.is_zero() {
            let timer = self.due.get_or_insert_with(|| Box::pin(sleep(wait)));
            ready!(timer.as_mut().poll(cx));
        }
        self.due = None;
        Poll::Ready(())
    }

    /// Waits for the thoughts before an event: each takes as long as a token of text.
    fn poll_thoughts(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let thoughts = u32::try_from(self.events.thoughts()).unwrap_or(u32::MAX);
        let wait = self.pace.interval.saturating_mul(thoughts);
        if !wait.is_zero() {
            let timer = self.thinking.get_or_insert_with(|| Box::pin(sleep(wait)));
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.cutting {
            return poll_cut(&mut self.flushed, cx);
        }
        if let Some(stop) = self.stop.filter(|stop| stop.after <= self.ticket.chunks) {
            return self.poll_stop(stop.how, cx);
        }
        ready!(self.poll_apart(cx));
        ready!(self.poll_due(cx));
        ready!(self.poll_thoughts(cx));
        let is_token = self.events.upcoming() == Next::Token;
        if is_token && !self.pace.interval.is_zero() {
            match &mut self.timer {
                Some(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    // From the due time, not from now: lateness doesn't add up.
                    let due = timer.deadline() + self.pace.interval;
                    timer.as_mut().reset(due);
                }
                None => self.timer = Some(Box::pin(sleep(self.pace.interval))),
            }
        }
        let Some(chunk) = self.events.next() else {
            self.ended = true;
            return Poll::Ready(None);
        };
        self.apart = false;
        self.thinking = None;
        self.ticket.chunks += 1;
        self.ticket.usage += chunk.made;
        if self.has_ended() && !self.cutting {
            self.ticket.close(Outcome::Answered);
        }
        let event = sse::respaced(chunk.bytes, self.spacing);
        Poll::Ready(Some(Ok(Frame::data(event))))
    }

    fn poll_stop(&mut self, how: How, cx: &Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if matches!(how, How::Hang) {
            return Poll::Pending;
        }
        self.ticket.close(Outcome::CutByFault);
        match how {
            How::Hang => Poll::Pending,
            How::Cut => {
                self.cutting = true;
                poll_cut(&mut self.flushed, cx)
            }
            How::Truncate => {
                self.cutting = true;
                let event = self.events.next().map(|chunk| chunk.bytes);
                let event = event.unwrap_or_default();
                let half = event.slice(..event.len() / 2);
                Poll::Ready(Some(Ok(Frame::data(half))))
            }
            How::Error => {
                self.stop = None;
                let event = self.events.error();
                self.events.end();
                Poll::Ready(Some(Ok(Frame::data(event))))
            }
        }
    }
}
