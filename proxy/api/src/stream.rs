//! Watches a stream of events for its usage, and takes out the usage event that the gateway asked for
//! on behalf of a client who did not.
//!
//! Whole events go through as the bytes that arrived. Nothing is copied or parsed besides the events
//! that carry usage. Line ends may be LF, CRLF or CR; `data:` may span lines.

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memmem};
use proxy_core::names::Usage;

use crate::usage::{self, Reader};

#[cfg(test)]
mod tests;

/// A partial event larger than this is passed on unscanned: no chunk of a chat is so large, and
/// holding it back would be a memory leak by invitation.
const MAX_HELD: usize = 1 << 20;

/// Bytes of text per output token, where a stream ended without usage.
const TEXT_BYTES_PER_TOKEN: u64 = 4;

/// How the events of an API are read.
#[derive(Debug)]
pub struct Grammar {
    /// The bytes of text that an event adds to the answer; `None` for an event without text.
    pub text: fn(event: &[u8]) -> Option<usize>,
    /// Whether the data of an event that carries usage carries nothing else, so that the event can be
    /// taken out.
    pub only_usage: fn(data: &[u8]) -> bool,
    /// The data of the event that ends a stream, if the API has one.
    pub end: Option<&'static str>,
}

/// A stream that is being watched.
#[derive(Debug)]
pub struct Stream {
    grammar: &'static Grammar,
    read_usage: Reader,
    strip: bool,
    held: BytesMut,
    usage: Option<Usage>,
    deltas: u64,
    text_bytes: u64,
    done: bool,
}

impl Stream {
    /// Watches a stream; with `strip`, takes out the event that carries nothing but usage.
    #[must_use]
    pub fn new(grammar: &'static Grammar, read_usage: Reader, strip: bool) -> Self {
        Self {
            grammar,
            read_usage,
            strip,
            held: BytesMut::new(),
            usage: None,
            deltas: 0,
            text_bytes: 0,
            done: false,
        }
    }

    /// The usage, once an event has carried it.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether the event that ends the stream has come.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Output tokens counted from the deltas that went through: at least one each, and a quarter
    /// of their text.
    #[must_use]
    pub fn counted_output(&self) -> u64 {
        self.deltas
            .max(self.text_bytes.div_ceil(TEXT_BYTES_PER_TOKEN))
    }

    /// Takes what arrived and returns what goes on to the client, which may be less or nothing.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.held.is_empty() {
            return self.scan(chunk);
        }
        self.held.extend_from_slice(&chunk);
        let joined = self.held.split().freeze();
        if !self.strip {
            // What was held is only a copy; the client has the bytes already.
            self.scan(joined);
            return chunk;
        }
        self.scan(joined)
    }

    /// The end of the stream: what was held back.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.held.split().freeze();
        let keep = rest.is_empty() || self.event(&rest);
        if self.strip && keep {
            rest
        } else {
            Bytes::new()
        }
    }

    fn scan(&mut self, chunk: Bytes) -> Bytes {
        let mut kept: Option<BytesMut> = None;
        let mut start = 0;
        while let Some(end) = event_end(&chunk, start) {
            let event = chunk.get(start..end).unwrap_or_default();
            let keep = self.event(event);
            if self.strip {
                match (&mut kept, keep) {
                    (None, false) => {
                        kept = Some(BytesMut::from(chunk.get(..start).unwrap_or_default()));
                    }
                    (Some(kept), true) => kept.extend_from_slice(event),
                    (None, true) | (Some(_), false) => {}
                }
            }
            start = end;
        }
        let rest = chunk.get(start..).unwrap_or_default();
        if rest.len() > MAX_HELD {
            return kept.map_or_else(
                || chunk.clone(),
                |mut kept| {
                    kept.extend_from_slice(rest);
                    kept.freeze()
                },
            );
        }
        self.held.extend_from_slice(rest);
        match kept {
            Some(kept) => kept.freeze(),
            None if self.strip => chunk.slice(..start),
            None => chunk,
        }
    }

    /// Looks at one whole event; false if it is to be taken out.
    fn event(&mut self, event: &[u8]) -> bool {
        if let Some(at) = usage::NAME.find(event)
            && follows_object(
                event
                    .get(at + usage::NAME.needle().len()..)
                    .unwrap_or_default(),
            )
        {
            let data = data_of(event);
            if let Some(found) = (self.read_usage)(&data, self.usage) {
                self.usage = Some(found);
                return !(self.strip && (self.grammar.only_usage)(&data));
            }
        }
        if let Some(text) = (self.grammar.text)(event) {
            self.deltas += 1;
            self.text_bytes += u64::try_from(text).unwrap_or(0);
        } else if let Some(end) = self.grammar.end
            && is_end(event, end)
        {
            self.done = true;
        }
        true
    }
}

/// Whether a line of the event is `data:` with exactly this.
fn is_end(event: &[u8], end: &str) -> bool {
    // The mark stands in few events: most are passed over by one search.
    memmem::find_iter(event, end.as_bytes()).any(|at| {
        let before = event.get(..at).unwrap_or_default();
        before.ends_with(b"data: ") || before.ends_with(b"data:")
    })
}

/// The index after the blank line that ends the event which begins at `start`.
fn event_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let line_end = at + memchr2(b'\n', b'\r', bytes.get(at..)?)?;
        let after = after_line_end(bytes, line_end);
        if line_end == at && at > start {
            // A CR at the very end may be half of a CRLF: wait for the other half.
            let undecided = bytes.get(line_end) == Some(&b'\r') && after == bytes.len();
            return (!undecided).then_some(after);
        }
        if line_end == at {
            // Blank lines before an event belong to it.
            if after >= bytes.len() {
                return None;
            }
        }
        at = after;
    }
}

fn after_line_end(bytes: &[u8], at: usize) -> usize {
    let crlf = bytes.get(at) == Some(&b'\r') && bytes.get(at + 1) == Some(&b'\n');
    at + if crlf { 2 } else { 1 }
}

/// The `data` of an event: its `data:` lines, joined by line feeds.
fn data_of(event: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(event.len());
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Some(value) = line.strip_prefix(b"data:") {
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
    data
}

/// Whether a colon and an object follow.
fn follows_object(rest: &[u8]) -> bool {
    let mut bytes = rest.iter().filter(|byte| !byte.is_ascii_whitespace());
    bytes.next() == Some(&b':') && bytes.next() == Some(&b'{')
}
