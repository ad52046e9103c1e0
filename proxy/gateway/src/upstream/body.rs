//! The body of an answer, whatever the connection speaks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::failure::{AnswerError, Failed};
use super::http1::Connection;
use super::links::Lease;
use super::pool::Pool;
use crate::alarm::Alarm;

/// The body of a backend's answer. Dropped before its end, it closes the connection, or resets the stream.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    kind: Kind,
    /// What was read of it before, and goes first.
    before: Bytes,
}

#[derive(Debug)]
enum Kind {
    Http1(Box<Connection>, Arc<Pool>),
    Http2 {
        body: Incoming,
        alarm: Alarm,
        /// Its stream's place on the connection.
        _lease: Lease,
    },
    /// Its connection is back in the pool, or its stream has ended.
    Ended,
}

impl AnswerBody {
    /// The body of the answer whose head the connection has read.
    pub(super) fn http1(connection: Box<Connection>, pool: Arc<Pool>) -> Self {
        let mut body = Self::from(Kind::Http1(connection, pool));
        body.settle();
        body
    }

    /// The body of an answer on HTTP/2, and its stream.
    pub(super) fn http2(body: Incoming, lease: Lease) -> Self {
        if body.is_end_stream() {
            return Self::from(Kind::Ended);
        }
        Self::from(Kind::Http2 {
            body,
            alarm: Alarm::default(),
            _lease: lease,
        })
    }

    /// Reads the body as far as a look at it takes, at most `size` bytes in `time`, and puts it back.
    pub(crate) async fn peek(&mut self, size: usize, time: Duration) -> Bytes {
        let mut read = BytesMut::new();
        let reading = async {
            while read.len() < size
                && let Some(Ok(frame)) = self.frame().await
            {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
        };
        // What is missing then makes the look fail, and comes behind what was read.
        tokio::time::timeout(time, reading).await.ok();
        self.before = read.freeze();
        self.before.clone()
    }

    /// Reads the body until what came of it is enough, at most about `size` bytes, and puts it back.
    ///
    /// # Errors
    /// It breaks or ends before.
    pub(crate) async fn begin(
        &mut self,
        size: usize,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<(), Failed> {
        let mut read = BytesMut::new();
        while read.len() < size && !is_enough(&read) {
            let Some(Ok(frame)) = self.frame().await else {
                return Err(Failed::cut());
            };
            if let Ok(data) = frame.into_data() {
                read.extend_from_slice(&data);
            }
        }
        self.before = read.freeze();
        Ok(())
    }

    /// Ready once `deadline` has passed. Ask after [`Body::poll_frame`] was pending.
    pub(crate) fn poll_past(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        match &mut self.kind {
            Kind::Http1(connection, _) => connection.alarm.poll_past(cx, deadline),
            Kind::Http2 { alarm, .. } => alarm.poll_past(cx, deadline),
            Kind::Ended => Poll::Pending,
        }
    }

    /// Gives the connection back if the answer has ended: not later, since the next request may be about to
    /// be sent.
    fn settle(&mut self) {
        if matches!(&self.kind, Kind::Http1(connection, _) if connection.is_ended())
            && let Kind::Http1(connection, pool) = std::mem::replace(&mut self.kind, Kind::Ended)
        {
            pool.put(connection);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if !self.before.is_empty() {
            let before = std::mem::take(&mut self.before);
            return Poll::Ready(Some(Ok(Frame::data(before))));
        }
        let piece = match &mut self.kind {
            Kind::Http1(connection, _) => ready!(connection.poll_body(cx)).transpose(),
            Kind::Http2 { body, .. } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if frame.is_none() || body.is_end_stream() {
                    self.kind = Kind::Ended;
                }
                return Poll::Ready(frame.map(|frame| Ok(frame?)));
            }
            Kind::Ended => None,
        };
        match &piece {
            Some(Err(_broken)) => self.kind = Kind::Ended,
            Some(Ok(_)) | None => self.settle(),
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece?))))
    }

    fn is_end_stream(&self) -> bool {
        let is_end = match &self.kind {
            Kind::Http1(..) => false,
            Kind::Http2 { body, .. } => body.is_end_stream(),
            Kind::Ended => true,
        };
        is_end && self.before.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.kind {
            Kind::Http1(connection, _) => connection
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Http2 { body, .. } => body.size_hint(),
            Kind::Ended => SizeHint::with_exact(0),
        };
        let before = u64::try_from(self.before.len()).unwrap_or(u64::MAX);
        rest.exact().map_or_else(SizeHint::default, |rest| {
            SizeHint::with_exact(rest.saturating_add(before))
        })
    }
}

impl From<Kind> for AnswerBody {
    fn from(kind: Kind) -> Self {
        let before = Bytes::new();
        Self { kind, before }
    }
}
