//! What hyper keeps to itself of a request's head, and the answers that it gives to heads it cannot read.

use std::sync::LazyLock;

use bytes::{Buf, Bytes};
use http::StatusCode;
use memchr::memmem::Finder;
use memchr::{memchr_iter, memchr2};

#[cfg(test)]
mod tests;

/// More than hyper takes for a head; see `Limits::http1`.
const MOST: usize = 64 << 10;

const END: &[u8] = b"\r\n\r\n";
static FIND_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));

/// In the extensions of a request: hyper takes it, and a server before or behind it may read it in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// It has a second `Content-Length`, or one beside its `Transfer-Encoding`. hyper drops it.
    TwoLengths,
    /// Its target has a fragment. hyper drops it.
    Fragment,
}

/// The next head, as far as hyper does not say what it was.
#[derive(Debug, Default)]
pub(super) struct RawHead {
    /// Of one that came as a whole.
    outline: Option<Outline>,
    /// The bytes of one that comes in pieces.
    pieces: Vec<u8>,
}

/// What is looked at in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outline {
    /// Its headers, each a line.
    headers: usize,
    has_fragment: bool,
}

/// What goes out in place of an answer of hyper.
#[derive(Debug)]
pub(super) struct Instead(Bytes);

// === impl RawHead ===

impl RawHead {
    /// Takes note of what was read while no request was under way. Copies nothing of a head that came as a whole.
    pub(super) fn note(&mut self, read: &[u8]) {
        if self.outline.is_some() {
            return;
        }
        if self.pieces.is_empty() {
            let read = after_blanks(read);
            if let Some(end) = FIND_END.find(read) {
                let head = read.get(..end + END.len()).unwrap_or(read);
                self.outline = Some(Outline::of(head));
                return;
            }
        }
        let room = MOST.saturating_sub(self.pieces.len());
        self.pieces
            .extend_from_slice(read.get(..room).unwrap_or(read));
    }

    /// Forgets what was noted, and frees its memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Judges the head of a request of which hyper has kept this many headers. One that was not seen, since it
    /// came together with an earlier request, is taken for ambiguous if it has a coding: only what smuggles
    /// requests writes so.
    pub(super) fn judge(&self, headers: usize, has_coding: bool) -> Option<Ambiguity> {
        let outline = self.outline.or_else(|| Outline::of_pieces(&self.pieces));
        match outline {
            Some(outline) if outline.has_fragment => Some(Ambiguity::Fragment),
            Some(outline) => (outline.headers != headers).then_some(Ambiguity::TwoLengths),
            None => has_coding.then_some(Ambiguity::TwoLengths),
        }
    }
}

/// Without the empty lines that may stand before a request (RFC 9112, 2.2).
fn after_blanks(read: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    let begin = read.iter().position(is_text).unwrap_or(read.len());
    read.get(begin..).unwrap_or_default()
}

// === impl Outline ===

impl Outline {
    /// Of a whole head, with the empty line that ends it.
    fn of(head: &[u8]) -> Self {
        let lines = memchr_iter(b'\n', head).count();
        let first = memchr2(b'#', b'\n', head).and_then(|place| head.get(place));
        Self {
            // All but the line of the request and the last one.
            headers: lines.saturating_sub(2),
            has_fragment: first == Some(&b'#'),
        }
    }

    /// Of a head and perhaps a part of its body; its lines may end without a CR.
    fn of_pieces(pieces: &[u8]) -> Option<Self> {
        let head = after_blanks(pieces);
        let mut size = 0;
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            size += line.len();
            if matches!(line, b"\r\n" | b"\n") {
                return head.get(..size).map(Self::of);
            }
        }
        None
    }
}

// === impl Instead ===

impl Instead {
    pub(super) const fn new(answer: Bytes) -> Self {
        Self(answer)
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn written(&mut self, size: usize) {
        self.0.advance(size.min(self.0.len()));
    }
}

/// The status of an answer that hyper gives itself: a bare head. Those of a service have a type, or name the
/// request.
pub(super) fn of_hyper(written: &[u8]) -> Option<StatusCode> {
    let code = written.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let has = |name: &[u8]| written.windows(name.len()).any(|part| part == name);
    let is_one = matches!(code, b"400" | b"414" | b"431")
        && written.ends_with(b"\r\n\r\n")
        && !has(b"content-type:")
        && !has(b"x-request-id:");
    is_one.then(|| StatusCode::from_bytes(code).ok()).flatten()
}
