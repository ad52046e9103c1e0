//! What hyper keeps to itself of a request's head, and the answers that it gives to heads it cannot read.

use std::sync::LazyLock;

use bytes::{Buf, Bytes};
use http::{StatusCode, header};
use memchr::memmem::Finder;

#[cfg(test)]
mod tests;

/// More than hyper takes for a head; see `Limits::http1`.
const MOST: usize = 64 << 10;

static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\r\n\r\n"));
/// Of `Transfer-Encoding`, as clients write it.
static CODING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("ransfer-"));

/// In the extensions of a request: it has a `Content-Length` beside its `Transfer-Encoding`. hyper drops the
/// length, and a server before or behind it may go by the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoLengths;

/// The bytes that hold the next head.
#[derive(Debug, Default)]
pub(super) struct RawHead(Vec<u8>);

/// What goes out in place of an answer of hyper.
#[derive(Debug)]
pub(super) struct Instead(Bytes);

// === impl RawHead ===

impl RawHead {
    /// Takes note of what was read while no request was under way. A head that came as a whole is only kept if it
    /// speaks of a coding.
    pub(super) fn note(&mut self, read: &[u8]) {
        let read = if self.0.is_empty() {
            match END.find(read) {
                Some(end) => {
                    let head = read.get(..end + END.needle().len()).unwrap_or(read);
                    if CODING.find(head).is_none() {
                        return;
                    }
                    head
                }
                None => read,
            }
        } else {
            read
        };
        let room = MOST.saturating_sub(self.0.len());
        self.0.extend_from_slice(read.get(..room).unwrap_or(read));
    }

    /// Forgets what was noted, and frees its memory.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// Whether the head has a length as well, if it has a coding. One that was not kept, since it came together
    /// with an earlier request or has capital letters in odd places, is taken for such a head: only what
    /// smuggles requests writes so.
    pub(super) fn has_two_lengths(&self, has_coding: bool) -> bool {
        if !has_coding {
            return false;
        }
        let lines = self.0.split(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        for line in lines.skip_while(|line| line.is_empty()) {
            if line.is_empty() {
                return false;
            }
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str().as_bytes()) {
                return true;
            }
        }
        true
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
