//! Decodes answers that come compressed although the gateway asks for `identity`: RFC 9110, 8.4.
//!
//! Takes bytes as they arrive and returns what they decode to. Bounded: a small answer that decodes to
//! more than its bounds is an error, not memory. Refuses bytes behind the end of a coding.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

mod bounds;
mod sink;
#[cfg(test)]
mod tests;
mod zstd;

pub use bounds::{Bounds, Undecodable};
use sink::Sink;
use zstd::Zstd;

/// Codings that may be stacked. More are of no use but to attack.
const MAX_STACKED: usize = 2;
/// What one step of a coding writes to.
const STEP: usize = 16 << 10;

/// An answer that is being decoded.
#[derive(Debug)]
pub struct Decoder {
    /// The last that was applied comes first.
    codings: Vec<Stage>,
    bounds: Bounds,
    any: bool,
    failed: Option<Undecodable>,
}

/// One coding, and what it may still decode to.
#[derive(Debug)]
struct Stage {
    coding: Coding,
    left: usize,
}

enum Coding {
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<Deflate>),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

/// `deflate` is zlib's format; some servers send it without zlib's header.
#[derive(Default)]
struct Deflate {
    /// The first byte, until the second one tells the formats apart.
    first: Option<u8>,
    inflate: Option<Decompress>,
    ended: bool,
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    ended: bool,
}

// === impl Decoder ===

impl Decoder {
    /// Decodes what `Content-Encoding` names. `None`: a coding is not known, or too many are stacked.
    #[must_use]
    pub fn new(content_encoding: &str, bounds: Bounds) -> Option<Self> {
        let names = content_encoding.split(',').map(str::trim);
        let named = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
        let codings: Option<Vec<Coding>> = named.rev().map(Coding::named).collect();
        let codings = codings.filter(|codings| codings.len() <= MAX_STACKED)?;
        let left = bounds.total;
        let stages = codings.into_iter().map(|coding| Stage { coding, left });
        Some(Self {
            codings: stages.collect(),
            bounds,
            any: false,
            failed: None,
        })
    }

    /// Whether bytes are what they are: nothing needs to be decoded.
    #[must_use]
    pub const fn is_identity(&self) -> bool {
        self.codings.is_empty()
    }

    /// Takes what arrived and returns what it decodes to, as far as that can be known: `zstd` keeps up
    /// to a window of it until its frame ends.
    ///
    /// # Errors
    /// [`Undecodable`], from then on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Bytes, Undecodable> {
        self.any |= !bytes.is_empty();
        self.run(bytes, false)
    }

    /// The end of the answer: what was kept.
    ///
    /// # Errors
    /// [`Undecodable`], also if the answer ends too early.
    pub fn finish(&mut self) -> Result<Bytes, Undecodable> {
        if !self.any && self.failed.is_none() {
            // An answer without a body has no coding either.
            return Ok(Bytes::new());
        }
        self.run(&[], true)
    }

    fn run(&mut self, bytes: &[u8], last: bool) -> Result<Bytes, Undecodable> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let mut decoded = Bytes::copy_from_slice(bytes);
        for stage in &mut self.codings {
            match stage.run(&decoded, last, self.bounds.per_call) {
                Ok(further) => decoded = further,
                Err(failed) => {
                    self.failed = Some(failed);
                    return Err(failed);
                }
            }
        }
        Ok(decoded)
    }
}

// === impl Stage ===

impl Stage {
    fn run(&mut self, bytes: &[u8], last: bool, per_call: usize) -> Result<Bytes, Undecodable> {
        let mut sink = Sink::new(self.left.min(per_call));
        self.coding.push(bytes, &mut sink)?;
        if last {
            self.coding.finish(&mut sink)?;
        }
        self.left = self.left.saturating_sub(sink.len());
        Ok(sink.into_bytes())
    }
}

// === impl Coding ===

impl Coding {
    fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Some(match name.as_str() {
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(Sink::new(0)))),
            "deflate" => Self::Deflate(Box::default()),
            "br" => Self::Brotli(Box::new(Brotli {
                state: BrotliState::new(
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                ),
                ended: false,
            })),
            "zstd" => Self::Zstd(Box::new(Zstd::new())),
            _ => return None,
        })
    }

    fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Undecodable> {
        if bytes.is_empty() {
            return Ok(());
        }
        match self {
            Self::Gzip(gzip) => sink.lend(gzip, |gzip| {
                std::io::Write::write_all(gzip, bytes)?;
                std::io::Write::flush(gzip)
            }),
            Self::Deflate(deflate) => deflate.push(bytes, sink),
            Self::Brotli(brotli) => brotli.push(bytes, sink),
            Self::Zstd(zstd) => zstd.push(bytes, sink),
        }
    }

    fn finish(&mut self, sink: &mut Sink) -> Result<(), Undecodable> {
        let ended = match self {
            Self::Gzip(gzip) => return sink.lend(gzip, MultiGzDecoder::try_finish),
            Self::Deflate(deflate) => deflate.ended,
            Self::Brotli(brotli) => brotli.ended,
            Self::Zstd(zstd) => zstd.is_between_frames(),
        };
        if ended {
            Ok(())
        } else {
            Err(Undecodable::Malformed)
        }
    }
}

impl std::fmt::Debug for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "gzip",
            Self::Deflate(_) => "deflate",
            Self::Brotli(_) => "br",
            Self::Zstd(_) => "zstd",
        })
    }
}

// === impl Deflate ===

impl Deflate {
    fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Undecodable> {
        if let Some(inflate) = &mut self.inflate {
            return inflated(inflate, &mut self.ended, bytes, sink);
        }
        let first = self.first.take();
        let joined = [first.as_slice(), bytes].concat();
        let &[one, two, ..] = &joined[..] else {
            self.first = joined.first().copied();
            return Ok(());
        };
        // RFC 1950: method 8, and the two bytes are a multiple of 31.
        let is_zlib = one & 0x0f == 8 && u16::from_be_bytes([one, two]) % 31 == 0;
        let inflate = self.inflate.insert(Decompress::new(is_zlib));
        inflated(inflate, &mut self.ended, &joined, sink)
    }
}

fn inflated(
    inflate: &mut Decompress,
    ended: &mut bool,
    mut bytes: &[u8],
    sink: &mut Sink,
) -> Result<(), Undecodable> {
    let mut step = [0; STEP];
    loop {
        if *ended {
            return sink::nothing_left(bytes);
        }
        let (read, written) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(bytes, &mut step, FlushDecompress::None);
        *ended = status.map_err(|_error| Undecodable::Malformed)? == Status::StreamEnd;
        let count = |now: u64, before| usize::try_from(now - before).unwrap_or(usize::MAX);
        let read = count(inflate.total_in(), read);
        let written = count(inflate.total_out(), written);
        sink.put(step.get(..written).unwrap_or_default())?;
        bytes = bytes.get(read..).unwrap_or_default();
        if !*ended && read == 0 && written == 0 {
            return sink::nothing_left(bytes);
        }
    }
}

// === impl Brotli ===

impl Brotli {
    fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Undecodable> {
        let mut step = [0; STEP];
        let (mut left, mut read) = (bytes.len(), 0);
        loop {
            if self.ended {
                return sink::nothing_left(bytes.get(read..).unwrap_or_default());
            }
            let (mut room, mut written, mut total) = (STEP, 0, 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                bytes,
                &mut room,
                &mut written,
                &mut step,
                &mut total,
                &mut self.state,
            );
            sink.put(step.get(..written).unwrap_or_default())?;
            match result {
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::ResultFailure => return Err(Undecodable::Malformed),
            }
        }
    }
}
