//! The answer of one stream on HTTP/2: small pieces, so that it is known what its client has taken.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::streams::Running;

/// Most of an answer that may wait in hyper for a client that takes nothing of it: a frame of HTTP/2.
const PIECE: usize = 16 << 10;

/// The body of an answer on a leash, in pieces: hyper asks for the next one once the client takes the first byte
/// of this one.
#[derive(Debug)]
pub(super) struct Leashed<B> {
    body: B,
    /// What is left of a frame.
    rest: Bytes,
    running: Running,
}

// === impl Leashed ===

impl<B> Leashed<B> {
    /// An answer whose head goes out now. Its body is not asked for until the client takes some of it.
    pub(super) fn new(body: B, running: Running) -> Self {
        running.leash.turn(true);
        Self {
            body,
            rest: Bytes::new(),
            running,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Leashed<B> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Leashed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = self.poll_piece(cx);
        // What was given before has been taken, or this would not be asked for more. Two turns for a part,
        // so that each is seen.
        self.running.leash.turn(false);
        self.running.leash.turn(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    // Asked for before the first frame only.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
