//! The stream below HTTP/2: counts the memory of heads that are on their way, and the errors with which
//! streams and connections end. hyper and its codec say neither.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frame, Frames};
use crate::connection::accepted::Accepted;
use crate::connection::faults::{Ends, Faults, Sender};
use crate::memory::{LONG_HEAD, Purpose, Room, SHORT_HEAD};

/// The preface of a client (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;
/// A stream or connection that ends so has no error.
const NO_ERROR: &str = "no_error";

/// A stream, and what is seen of it.
pub(super) struct Wire<I> {
    stream: I,
    peer: Option<IpAddr>,
    room: Option<Room>,
    /// What the connection holds without a long head.
    cost: usize,
    faults: Faults,
    received: Frames,
    sent: Frames,
    /// How much has come of the head that is on its way.
    head: usize,
}

impl<I> Wire<I> {
    pub(super) fn new(client: Accepted<I>, cost: usize, faults: &Faults) -> Self {
        Self {
            stream: client.stream,
            peer: client.peer,
            room: client.room,
            cost,
            faults: faults.clone(),
            received: Frames::new(PREFACE_BYTES),
            sent: Frames::new(0),
            head: 0,
        }
    }

    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (faults, peer, head) = (&self.faults, self.peer, &mut self.head);
        let (mut begins, mut longest) = (false, 0);
        self.received.follow(bytes, |frame| match frame {
            Frame::Head { length, is_last } | Frame::MoreHead { length, is_last } => {
                begins |= *head == 0;
                let so_far = *head + length;
                longest = longest.max(so_far);
                *head = if is_last { 0 } else { so_far };
            }
            Frame::Reset { error } => {
                count(faults, Sender::Client, Ends::Stream, error, peer);
            }
            Frame::GoAway { error } => {
                count(faults, Sender::Client, Ends::Connection, error, peer);
            }
            Frame::Other => {}
        });
        if longest > SHORT_HEAD {
            self.hold_long_head()
        } else {
            if begins {
                self.forget_long_head();
            }
            Ok(())
        }
    }

    /// As on HTTP/1.1: without room for a head the connection ends.
    #[cold]
    fn hold_long_head(&mut self) -> io::Result<()> {
        let Some(room) = &mut self.room else {
            return Ok(());
        };
        let more = self.cost + LONG_HEAD;
        // Nothing is taken for it: it says whether heads may grow at all.
        let fits =
            room.bytes() >= more || room.budget().take(Purpose::Head, 0) && room.resize(more);
        if fits {
            Ok(())
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        }
    }

    fn forget_long_head(&mut self) {
        if let Some(room) = self.room.as_mut().filter(|room| room.bytes() > self.cost) {
            // Less always fits.
            let _fits = room.resize(self.cost);
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        let (faults, peer) = (&self.faults, self.peer);
        self.sent.follow(bytes, |frame| match frame {
            Frame::Reset { error } => {
                count(faults, Sender::Server, Ends::Stream, error, peer);
            }
            Frame::GoAway { error } => {
                count(faults, Sender::Server, Ends::Connection, error, peer);
            }
            Frame::Head { .. } | Frame::MoreHead { .. } | Frame::Other => {}
        });
    }
}

fn count(faults: &Faults, sender: Sender, ends: Ends, error: &'static str, peer: Option<IpAddr>) {
    if error != NO_ERROR {
        faults.count(sender, ends, error, peer);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let had = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(had..).unwrap_or_default();
        Poll::Ready(self.received(read))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.sent(bytes.get(..written).unwrap_or(bytes));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts))?;
        let mut left = written;
        for part in parts {
            let of_part = part.get(..left).unwrap_or(part);
            self.sent(of_part);
            left -= of_part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
