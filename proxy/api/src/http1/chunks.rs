//! The grammar of the chunked coding (RFC 9112, 7.1), byte by byte, without its leniences: no blanks around
//! sizes, no bare line feeds. Extensions and trailers are checked and dropped.

use bytes::{Buf, Bytes, BytesMut};

use super::malformed::Malformed;

/// Digits of a size: what fits into 64 bits.
const SIZE_DIGITS: u8 = 16;
/// Extensions of one chunk. No backend is known to send any.
const EXTENSION_BYTES: u16 = 1 << 10;
/// All trailers of an answer.
const TRAILER_BYTES: u16 = 8 << 10;

/// Which byte comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunks {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        bytes: u16,
    },
    /// The line feed after a size.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The carriage return after the data.
    DataEnd,
    /// The line feed after the data.
    DataEnded,
    /// The first byte of a line after the last chunk.
    Line {
        bytes: u16,
    },
    TrailerName {
        bytes: u16,
    },
    TrailerValue {
        bytes: u16,
    },
    /// The line feed after a trailer.
    TrailerEnd {
        bytes: u16,
    },
    /// The last line feed.
    End,
    Ended,
}

impl Chunks {
    pub(super) const START: Self = Self::Size { size: 0, digits: 0 };

    /// Takes what it can out of the buffer: the data of all chunks there, as one piece. Several chunks are
    /// moved together in place, one is not copied at all.
    ///
    /// Data before an error comes out first: the next call meets the error.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        // The data found so far are at `start..end`, and the next byte to look at is `at`.
        let (mut start, mut end, mut at) = (0, 0, 0);
        while !self.is_ended() {
            if let Self::Data { left } = *self {
                let there = buffer.len().saturating_sub(at);
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there);
                if taken == 0 {
                    break;
                }
                if start == end {
                    (start, end) = (at, at);
                } else {
                    buffer.copy_within(at..at + taken, end);
                }
                at += taken;
                end += taken;
                // `taken` is at most `left`, which is 64 bits.
                let left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                *self = if left == 0 {
                    Self::DataEnd
                } else {
                    Self::Data { left }
                };
                continue;
            }
            let Some(&byte) = buffer.get(at) else { break };
            match self.step(byte) {
                Ok(next) => *self = next,
                Err(malformed) if start == end => return Err(malformed),
                Err(_after_data) => break,
            }
            at += 1;
        }
        if start == end {
            buffer.advance(at);
            return Ok(None);
        }
        buffer.advance(start);
        let data = buffer.split_to(end - start).freeze();
        buffer.advance(at - end);
        Ok(Some(data))
    }

    pub(super) const fn is_ended(self) -> bool {
        matches!(self, Self::Ended)
    }

    /// The state after a byte that is no data.
    fn step(self, byte: u8) -> Result<Self, Malformed> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, b'\r') if digits > 0 => Self::SizeEnd { size },
            (Self::Size { size, digits }, b';') if digits > 0 => Self::Extension { size, bytes: 0 },
            (Self::Size { size, digits }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::ChunkSize)?;
                if digits == SIZE_DIGITS {
                    return Err(Malformed::ChunkSize);
                }
                // 16 digits of 4 bits cannot overflow.
                Self::Size {
                    size: (size << 4) | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Extension { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size, bytes }, _) => Self::Extension {
                size,
                bytes: more(bytes, EXTENSION_BYTES).ok_or(Malformed::Extensions)?,
            }
            .text(byte, Malformed::ChunkSize)?,
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Line { bytes: 0 },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::SizeEnd { .. }, _) => return Err(Malformed::ChunkSize),
            (Self::DataEnd, b'\r') => Self::DataEnded,
            (Self::DataEnded, b'\n') => Self::START,
            (Self::DataEnd | Self::DataEnded, _) => return Err(Malformed::ChunkEnd),
            (Self::Line { .. }, b'\r') => Self::End,
            (Self::End, b'\n') => Self::Ended,
            (Self::TrailerName { bytes }, b':') => Self::TrailerValue { bytes },
            (Self::Line { bytes } | Self::TrailerName { bytes }, _) if is_token(byte) => {
                Self::TrailerName {
                    bytes: more(bytes, TRAILER_BYTES).ok_or(Malformed::Trailers)?,
                }
            }
            (Self::TrailerValue { bytes }, b'\r') => Self::TrailerEnd { bytes },
            (Self::TrailerValue { bytes }, _) => Self::TrailerValue {
                bytes: more(bytes, TRAILER_BYTES).ok_or(Malformed::Trailers)?,
            }
            .text(byte, Malformed::Trailers)?,
            (Self::TrailerEnd { bytes }, b'\n') => Self::Line { bytes },
            (Self::Line { .. } | Self::TrailerName { .. }, _)
            | (Self::TrailerEnd { .. } | Self::End, _)
            // Unreachable: data are not looked at, and nothing is after the end.
            | (Self::Data { .. } | Self::Ended, _) => return Err(Malformed::Trailers),
        })
    }

    /// Itself, after a byte that may be in a line.
    fn text(self, byte: u8, otherwise: Malformed) -> Result<Self, Malformed> {
        match byte {
            b'\t' | b' '..=b'~' | 0x80.. => Ok(self),
            0..b' ' | 0x7f => Err(otherwise),
        }
    }
}

/// One more of at most `bound`.
fn more(count: u16, bound: u16) -> Option<u16> {
    count.checked_add(1).filter(|count| *count <= bound)
}

/// A byte of a header's name (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
