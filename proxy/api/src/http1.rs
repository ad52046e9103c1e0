//! Reads answers on HTTP/1.1: bytes in, a head and pieces of a body out. Does no I/O.
//!
//! The grammar is RFC 9112's without what it leaves to a tolerant reader: whatever two readers could read
//! differently is an error. What the connection says about itself ends here.

use bytes::{Bytes, BytesMut};
use http::StatusCode;

mod chunks;
mod head;
mod malformed;

pub use head::{Head, strip};
pub use malformed::Malformed;

use chunks::Chunks;
use head::Framing;

#[cfg(test)]
mod tests;

/// Largest head. Foundry's are about 1 KiB.
const MAX_HEAD: usize = 64 << 10;
/// Answers with status 1xx before the final one. A server may send `102 Processing` from time to time.
const MAX_INTERIM: u8 = 32;
/// How every answer begins.
const PREFIX: &[u8] = b"HTTP/1.";

/// Reads one answer to a method whose answers have bodies: not to `HEAD` or `CONNECT`. The bytes that
/// follow it stay in the buffer.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The connection can carry another exchange, as far as the answer says.
    keeps: bool,
}

/// A step through a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the body, at least one.
    Data(Bytes),
    /// More must be read first.
    More,
    /// The body has ended.
    End,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head {
        /// Bytes that hold no end of a head.
        scanned: usize,
        interim: u8,
    },
    Length(u64),
    Chunked(Chunks),
    Close,
}

const END: State = State::Length(0);

impl Decoder {
    /// Waits for a head.
    #[must_use]
    pub const fn new() -> Self {
        let state = State::Head {
            scanned: 0,
            interim: 0,
        };
        Self {
            state,
            keeps: false,
        }
    }

    /// Takes the head of the final answer out of the buffer, once it is there. Interim answers are dropped.
    ///
    /// # Errors
    /// The head is not acceptable: the connection is of no more use.
    pub fn head(&mut self, buffer: &mut BytesMut) -> Result<Option<Head>, Malformed> {
        while let State::Head { scanned, interim } = &mut self.state {
            let Some(size) = head_size(buffer, scanned)? else {
                return Ok(None);
            };
            let head = Head::parse(&buffer.split_to(size).freeze())?;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Malformed::Upgrade);
            }
            if head.status.is_informational() {
                *interim += 1;
                *scanned = 0;
                if *interim > MAX_INTERIM {
                    return Err(Malformed::TooManyInterim);
                }
                continue;
            }
            self.keeps = head.keeps && head.framing != Framing::Close;
            self.state = match head.framing {
                Framing::Length(length) => State::Length(length),
                Framing::Chunked => State::Chunked(Chunks::START),
                Framing::Close => State::Close,
            };
            return Ok(Some(head));
        }
        Ok(None)
    }

    /// Takes as much of the body out of the buffer as is there, as one piece. Call it after the head.
    ///
    /// # Errors
    /// The chunks are not well-formed: the connection is of no more use.
    pub fn body(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        let data = match &mut self.state {
            State::Head { .. } => return Ok(Piece::More),
            State::Length(left) => {
                let there = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                // At most `left`, which is 64 bits.
                *left = left.saturating_sub(u64::try_from(there).unwrap_or(u64::MAX));
                buffer.split_to(there).freeze()
            }
            State::Chunked(chunks) => chunks.decode(buffer)?.unwrap_or_default(),
            State::Close => buffer.split().freeze(),
        };
        Ok(match data.is_empty() {
            false => Piece::Data(data),
            true if self.is_ended() => Piece::End,
            true => Piece::More,
        })
    }

    /// The peer sends no more.
    ///
    /// # Errors
    /// The answer has not ended.
    pub fn closed(&mut self) -> Result<(), Malformed> {
        match self.state {
            State::Close => self.state = END,
            _ if self.is_ended() => {}
            State::Head { .. } | State::Length(_) | State::Chunked(_) => {
                return Err(Malformed::Truncated);
            }
        }
        Ok(())
    }

    /// Whether the whole answer has been taken out.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        match self.state {
            State::Length(left) => left == 0,
            State::Chunked(chunks) => chunks.is_ended(),
            State::Head { .. } | State::Close => false,
        }
    }

    /// How many bytes of the body are left, if its head says so.
    #[must_use]
    pub const fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Head { .. } | State::Chunked(_) | State::Close => None,
        }
    }

    /// Whether another answer may follow on the connection.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.keeps && self.is_ended()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The size of the head at the front of the buffer, once all of it is there. Each byte is looked at once,
/// however slowly they come.
fn head_size(buffer: &[u8], scanned: &mut usize) -> Result<Option<usize>, Malformed> {
    if !buffer.iter().zip(PREFIX).all(|(is, must)| is == must) {
        return Err(Malformed::Version);
    }
    let fresh = buffer.get(*scanned..).unwrap_or_default();
    for feed in memchr::memchr_iter(b'\n', fresh) {
        let (before, _) = buffer.split_at(*scanned + feed);
        if !before.ends_with(b"\r") {
            return Err(Malformed::BareLineFeed);
        }
        if before.ends_with(b"\r\n\r") {
            let size = before.len() + 1;
            return if size <= MAX_HEAD {
                Ok(Some(size))
            } else {
                Err(Malformed::HeadTooLarge)
            };
        }
    }
    *scanned = buffer.len();
    if buffer.len() >= MAX_HEAD {
        return Err(Malformed::HeadTooLarge);
    }
    Ok(None)
}
