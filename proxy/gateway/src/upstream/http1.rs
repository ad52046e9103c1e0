//! A connection on HTTP/1.1, and the exchanges on it, one after the other.
//!
//! Nothing here is a task: whoever wants the answer polls the socket. So a frame costs no channel and no
//! wake-up, and what one read brought goes on at once.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use proxy_admin::clock;
use proxy_api::Pieces;
use proxy_api::http1::{Decoder, Head, Piece};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;

use super::failure::{AnswerError, Failed, Lost};
use super::patience::{Patience, Progress};
use super::stream::Stream;
use super::term::Term;
use crate::alarm::Alarm;
use crate::origin::{Origin, Outgoing};
use crate::tail::Tail;

/// What is read at once: more after each read that was full. An idle connection keeps no larger buffer.
const LEAST_READ: usize = 8 << 10;
/// The same within a stream: events are small, seldom come together, and thousands of streams wait for
/// theirs at one time.
const STREAM_READ: usize = 1 << 10;
/// As much as a socket of the kernel usually holds.
const MOST_READ: usize = 64 << 10;
/// Most that is written of a request at once, and how often until the other connections of the core have their
/// turn: a megabyte, which the kernel copies in less than a millisecond.
const MOST_WRITTEN: usize = 256 << 10;
const TURNS: usize = 5;

/// A connection, between exchanges or within one.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// How long it may be kept.
    pub(super) term: Term,
    sending: Sending,
    /// The head of the request. Its memory is used again.
    head: Vec<u8>,
    /// How much of the head is written.
    written: usize,
    /// What is left of this piece of the request's body.
    body: Bytes,
    /// The pieces after it.
    rest: Pieces,
    /// What comes after them, from the client.
    tail: Option<Box<Tail>>,
    /// The client has not sent all of it.
    is_starved: bool,
    /// What was read and not taken.
    buffer: BytesMut,
    /// The memory behind the buffer may be larger than an idle connection should keep, or smaller than the
    /// next head needs.
    is_resized: bool,
    read_size: usize,
    decoder: Decoder,
    /// A byte of the answer has come.
    is_answered: bool,
    /// For the waits of all exchanges.
    pub(super) alarm: Alarm,
}

/// How far the request is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Writing,
    /// TLS may hold back what it was given.
    Flushing,
    Done,
    /// The server reads no more. It may have answered before.
    Broken,
}

impl Connection {
    pub(super) fn new(stream: Stream, term: Term) -> Self {
        Self {
            stream,
            term,
            sending: Sending::Done,
            head: Vec::new(),
            written: 0,
            body: Bytes::new(),
            rest: Pieces::default(),
            tail: None,
            is_starved: false,
            buffer: BytesMut::new(),
            is_resized: false,
            read_size: LEAST_READ,
            decoder: Decoder::new(),
            is_answered: false,
            alarm: Alarm::default(),
        }
    }

    /// Whether nothing came since the last answer: neither an end, nor bytes that would be taken for the
    /// next answer. Asks the kernel only if tokio has been notified of something.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        let read = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut byte));
        // A task that has used up its budget would find every connection quiet.
        let read = pin!(unconstrained(read));
        read.poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn exchange(
        &mut self,
        origin: &Origin,
        outgoing: &Outgoing<'_>,
        patience: Patience,
    ) -> Result<Head, Lost> {
        self.head.clear();
        origin.write_head(outgoing, &mut self.head);
        self.written = 0;
        let Some(mut body) = (outgoing.body)() else {
            return Err(Failed::given_up().into());
        };
        self.body = body.pieces.take_next().unwrap_or_default();
        self.rest = body.pieces;
        self.tail = body.tail;
        self.is_starved = false;
        self.sending = Sending::Writing;
        self.decoder = Decoder::new();
        self.is_answered = false;
        self.stream.begin();
        let mut progress = Progress::new(patience);
        poll_fn(|cx| self.poll_head(cx, &mut progress)).await
    }

    /// Goes on with an exchange that was given up before its answer.
    pub(super) async fn head(&mut self, until: Instant) -> Result<Head, Lost> {
        let now = clock::instant();
        let mut progress = Progress::new(Patience {
            now,
            answer: until.saturating_duration_since(now),
            until,
        });
        poll_fn(|cx| self.poll_head(cx, &mut progress)).await
    }

    /// Whether the client has yet to send a part of the request.
    pub(super) const fn is_fed(&self) -> bool {
        self.tail.is_some() || self.is_starved
    }

    /// Whether something of the request is out.
    pub(super) fn has_sent(&mut self) -> bool {
        self.stream.has_sent()
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut Progress,
    ) -> Poll<Result<Head, Lost>> {
        loop {
            if let Err(error) = self.write(cx) {
                if self.is_starved {
                    return Poll::Ready(Err(Failed::starved(error.to_string()).into()));
                }
                if !self.stream.has_sent() {
                    return Poll::Ready(Err(self.lost(error.to_string())));
                }
            }
            match self.decoder.head(&mut self.buffer) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Err(self.lost(malformed.to_string()))),
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => {
                    let cause = "the connection was closed before the answer";
                    return Poll::Ready(Err(self.lost(cause.to_owned())));
                }
                Poll::Ready(Ok(_)) => self.is_answered = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(error.to_string()))),
                Poll::Pending => {
                    let held = self.head.len() - self.written + self.body.len() + self.rest.len();
                    let unsent = held + self.tail.as_deref().map_or(0, Tail::left);
                    ready!(self.alarm.poll_past(cx, progress.end(unsent)));
                    return Poll::Ready(Err(Failed::timeout().into()));
                }
            }
        }
    }

    fn lost(&mut self, cause: String) -> Lost {
        let failed = if self.stream.has_sent() {
            Failed::broke_off(cause)
        } else {
            Failed::unreachable(cause)
        };
        Lost {
            failed,
            is_unanswered: !self.is_answered,
        }
    }

    /// The next piece of the answer's body; `None` at its end. Goes on sending the request, if its answer
    /// came early.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, AnswerError>> {
        loop {
            match self.decoder.body(&mut self.buffer)? {
                Piece::Data(bytes) => return Poll::Ready(Ok(Some(bytes))),
                Piece::End => return Poll::Ready(Ok(None)),
                Piece::More => {}
            }
            if self.buffer.is_empty() && self.decoder.left().is_none() && !self.is_resized {
                self.buffer = BytesMut::with_capacity(STREAM_READ);
                self.read_size = STREAM_READ;
                self.is_resized = true;
                if self.sending == Sending::Done {
                    self.head = Vec::new();
                }
            }
            // The answer is there, so an error only means that the connection is not used again.
            drop(self.write(cx));
            if ready!(self.poll_fill(cx))? == 0 {
                self.decoder.closed()?;
            }
        }
    }

    /// Whether the answer has been read to its end.
    pub(super) const fn is_ended(&self) -> bool {
        self.decoder.is_ended()
    }

    /// How many bytes of the answer are left, if it said so.
    pub(super) const fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// The connection as it is kept for another exchange, if it can carry one.
    pub(super) fn into_idle(mut self: Box<Self>) -> Option<Box<Self>> {
        // Bytes after the end would be taken for the next answer.
        let reusable =
            self.decoder.keeps() && self.sending == Sending::Done && self.buffer.is_empty();
        if self.is_resized {
            self.buffer = BytesMut::new();
            self.is_resized = false;
            self.read_size = LEAST_READ;
        }
        if self.head.capacity() > LEAST_READ {
            self.head = Vec::new();
        }
        reusable.then_some(self)
    }

    /// Writes what the connection takes of the request, up to the turn of others.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut turns = TURNS;
        loop {
            if turns == 0 {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            turns -= 1;
            let done = match self.sending {
                Sending::Done | Sending::Broken => return Ok(()),
                Sending::Flushing => Pin::new(&mut self.stream)
                    .poll_flush(cx)
                    .map_ok(|()| Sending::Done),
                Sending::Writing if self.needs_tail() => self.poll_tail(cx),
                Sending::Writing => {
                    let head = self.head.get(self.written..).unwrap_or_default();
                    let body = self.body.get(..MOST_WRITTEN).unwrap_or(&self.body);
                    let slices = [IoSlice::new(head), IoSlice::new(body)];
                    let stream = Pin::new(&mut self.stream);
                    stream.poll_write_vectored(cx, &slices).map(|written| {
                        let written = match written? {
                            0 => return Err(io::ErrorKind::WriteZero.into()),
                            written => written,
                        };
                        let of_head = written.min(head.len());
                        self.written += of_head;
                        self.body.advance(written - of_head);
                        if self.body.is_empty() {
                            self.body = self.rest.take_next().unwrap_or_default();
                        }
                        let is_all = self.written == self.head.len()
                            && self.body.is_empty()
                            && self.tail.is_none();
                        Ok(if is_all {
                            Sending::Flushing
                        } else {
                            Sending::Writing
                        })
                    })
                }
            };
            match done {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(next)) => self.sending = next,
                Poll::Ready(Err(error)) => {
                    self.sending = Sending::Broken;
                    (self.body, self.rest) = (Bytes::new(), Pieces::default());
                    self.tail = None;
                    return Err(error);
                }
            }
            if self.sending != Sending::Writing {
                // An empty rest would keep all of the body alive.
                self.body = Bytes::new();
            }
        }
    }

    /// Whether all is written but what the client has yet to send.
    fn needs_tail(&self) -> bool {
        self.tail.is_some() && self.body.is_empty() && self.written == self.head.len()
    }

    /// Takes the next piece from the client.
    fn poll_tail(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Sending>> {
        let next = match &mut self.tail {
            Some(tail) => ready!(tail.poll_next(cx)),
            None => None,
        };
        Poll::Ready(match next {
            Some(Ok(piece)) => {
                self.body = piece;
                Ok(Sending::Writing)
            }
            Some(Err(error)) => {
                self.is_starved = true;
                Err(error)
            }
            None => {
                self.tail = None;
                Ok(Sending::Flushing)
            }
        })
    }

    /// Reads what is there, as much as fits: 0 bytes at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut total = 0;
        loop {
            // What was read before is most often gone by now, and its place is free again. If not, what is
            // left of the buffer serves as long as it can.
            if self.buffer.is_empty() {
                let _is_free = self.buffer.try_reclaim(self.read_size);
            }
            let mut spare = self.buffer.capacity() - self.buffer.len();
            if spare < self.read_size / 8 {
                // Bytes that are there already come on top.
                self.is_resized |= self.read_size > LEAST_READ || !self.buffer.is_empty();
                self.buffer.reserve(self.read_size);
                spare = self.buffer.capacity() - self.buffer.len();
            }
            let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(cx);
            let Poll::Ready(Ok(size @ 1..)) = read else {
                // An end or an error comes again at the next read.
                return if total > 0 {
                    Poll::Ready(Ok(total))
                } else {
                    read
                };
            };
            total += size;
            // The rest of a used buffer says nothing of how much there was.
            if size == spare && spare >= self.read_size {
                self.read_size = (self.read_size * 2).min(MOST_READ);
            }
            if !self.stream.reads_in_parts() || total >= MOST_READ {
                return Poll::Ready(Ok(total));
            }
        }
    }
}
