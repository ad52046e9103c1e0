//! Watches a stream of events: for its usage, for what the model wrote, and for how it ends. Takes out
//! the usage event that the gateway asked for on behalf of a client who did not.
//!
//! Whole events go through as the bytes that arrived; a part of one waits for its rest, so that a stream which
//! breaks off ends behind an event. Only events that carry usage are parsed; what a stream without usage has
//! shown is read at its end. Line ends may be LF, CRLF or CR; `data:` may span lines. What
//! follows the event that ends the stream is dropped: clients close there.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use proxy_core::names::{Code, Usage};
use proxy_core::tokens::Thoughts;

use crate::error::{ErrorEvent, has_error};
use crate::json::member;
use crate::text::Text;
use crate::usage::{InputReader, Reader, USAGE, answered_model};

#[cfg(test)]
mod tests;

/// A partial event larger than this is passed on unscanned: no chunk of a chat is so large, and
/// holding it back would be a memory leak by invitation.
const MAX_HELD: usize = 1 << 20;

/// Events that are searched for the model: Azure's first one has an empty name.
const MODEL_WITHIN: u8 = 4;

/// Of the data of a stream's first events, as much is kept to be read at its end: some thirty events. A
/// gateway has thousands of streams.
const MAX_FIRST: usize = 8 << 10;
/// How many events are kept that came last: an error, or the end of the model's words, its usage and filters.
const LAST: usize = 4;

/// How the answers of an API are read.
#[derive(Debug)]
pub struct Grammar {
    /// Adds what the model wrote in the data of an event, and tells what the event is.
    pub event: fn(data: &[u8], text: &mut Text) -> Said,
    /// Adds what the model wrote in a JSON answer; `None` if the model writes no text, so that no text of its
    /// answers says what they cost.
    pub answer: Option<fn(answer: &[u8], text: &mut Text)>,
    /// Whether the data of an event that carries usage carries nothing else, so that the event can be
    /// taken out.
    pub only_usage: fn(data: &[u8]) -> bool,
    /// The data of the event that ends a stream, if the API has one.
    pub end: Option<&'static str>,
    /// Reads what an event before the last tells of the usage: its input is known, and its output is not.
    pub read_input: Option<InputReader>,
    /// Whether the data of an event says that the model thinks, if an event does so before any thought is billed.
    pub thought: Option<fn(data: &[u8]) -> bool>,
    /// How its streams say that they have failed.
    pub error: ErrorEvent,
}

/// What an event says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// It carries text: such an event is not searched for an error.
    pub text: bool,
    /// The model has finished.
    pub finish: bool,
    /// It says that the answer has failed, in a form of its own.
    pub failed: bool,
}

/// How a stream ended, by its content: the status was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model has finished, or the event that ends a stream has come.
    Complete,
    /// No event came, besides one that ends the stream.
    Empty,
    /// The events cease before the model has finished.
    Unended,
    /// An event reports an error.
    Error,
}

/// A stream that is being watched.
#[derive(Debug)]
pub struct Stream {
    grammar: &'static Grammar,
    read_usage: Reader,
    strip: bool,
    /// An event that is not whole yet.
    held: BytesMut,
    /// Where its last line begins: what stands before it has been searched.
    line: usize,
    /// What went on last is a part of an event that was too large to be held.
    cut: bool,
    usage: Option<Usage>,
    /// The usage before its output was known.
    input: Option<Usage>,
    model: Option<Box<str>>,
    model_within: u8,
    shown: Shown,
    any: bool,
    failed: bool,
    done: bool,
}

/// What the events have shown, unread: most streams tell their usage.
#[derive(Debug, Default)]
struct Shown {
    /// The data of the first events, one after the other.
    first: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
    /// The data of the last events behind those, the oldest first.
    last: [Vec<u8>; LAST],
    /// How many events came behind the first, and their bytes.
    more: u64,
    more_bytes: u64,
    /// Events that were too large to be looked at.
    unread: u64,
}

/// What goes on of some bytes.
enum Passed {
    /// This number of bytes from the start.
    First(usize),
    /// Those of the events that stay.
    Kept(Bytes),
}

/// The end of an event in the bytes.
struct End {
    /// After its blank line.
    at: usize,
    /// It is known to be one line.
    one_line: bool,
}

// === impl Stream ===

impl Stream {
    /// Watches a stream; with `strip`, takes out the event that carries nothing but usage.
    #[must_use]
    pub fn new(grammar: &'static Grammar, read_usage: Reader, strip: bool) -> Self {
        Self {
            grammar,
            read_usage,
            strip,
            held: BytesMut::new(),
            line: 0,
            cut: false,
            usage: None,
            input: None,
            model: None,
            model_within: MODEL_WITHIN,
            shown: Shown::default(),
            any: false,
            failed: false,
            done: false,
        }
    }

    /// The usage, once an event has carried it: the last one counts, however the stream ends.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The usage as far as the stream reports it before its output.
    #[must_use]
    pub const fn input(&self) -> Option<Usage> {
        self.input
    }

    /// The model that answers, once an event has named it.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Whether the event that ends the stream has come. Nothing goes on to the client after it.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the model has finished, so that only the usage and the end are left.
    #[must_use]
    pub fn is_finishing(&self) -> bool {
        let mut text = Text::default();
        let mut last = self.shown.last();
        last.any(|data| (self.grammar.event)(data, &mut text).finish)
    }

    /// Whether a client has all that it needs: in APIs without an event that only ends the stream, clients close
    /// at the one by which the model finishes.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        let is_last = self.grammar.end.is_none() && self.usage.is_some();
        self.done || (is_last && self.ending() == Ending::Complete)
    }

    /// How the stream has ended, if nothing more comes.
    #[must_use]
    pub fn ending(&self) -> Ending {
        if self.failed || self.shown.last().any(|data| self.says_failed(data)) {
            Ending::Error
        } else if !self.any {
            Ending::Empty
        } else if self.done || self.is_finishing() {
            Ending::Complete
        } else {
            Ending::Unended
        }
    }

    fn says_failed(&self, data: &[u8]) -> bool {
        has_error(data) || (self.grammar.event)(data, &mut Text::default()).failed
    }

    /// The event by which the gateway ends a stream that broke off; `request_id` names the request where the API's
    /// errors do.
    #[must_use]
    pub fn error_event(&self, code: Code, message: &str, request_id: Option<&str>) -> Vec<u8> {
        let mut last = self.shown.last();
        let number = last.find_map(|data| member(data, "sequence_number"));
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        let next = number.map_or(0, |number: u64| number.saturating_add(1));
        let event = self.grammar.error.write(code, message, next, request_id);
        // A part of an event before it must not swallow it.
        let before: &[u8] = if self.cut { b"\n\n" } else { b"" };
        [before, &event].concat()
    }

    /// Output tokens by what went through, for a stream without usage; see [`Text::tokens`]. Of the events
    /// after the first ones only the size is known, and counts less what the first had around their text. 0 if
    /// the model writes no text.
    pub fn counted_output(&self, count: impl FnOnce(&str) -> Option<u64>) -> u64 {
        if self.has_words() {
            self.shown.text(self.grammar).tokens(count)
        } else {
            0
        }
    }

    /// Whether its text says what it costs, where it tells no usage.
    #[must_use]
    pub const fn has_words(&self) -> bool {
        self.grammar.answer.is_some()
    }

    /// What it tells of the model's thoughts. They come before the text, so the first events tell of them, or
    /// the last ones in a stream that goes on to think.
    #[must_use]
    pub fn thoughts(&self) -> Thoughts {
        let Some(begins) = self.grammar.thought else {
            return Thoughts::Unknown;
        };
        let mut all = self.shown.first().chain(self.shown.last());
        if all.any(begins) {
            Thoughts::Begun
        } else {
            Thoughts::Absent
        }
    }

    /// Takes what arrived and returns what goes on to the client, which may be less or nothing.
    pub fn push(&mut self, mut chunk: Bytes) -> Bytes {
        if self.done {
            return Bytes::new();
        }
        if self.held.is_empty() {
            return match self.scan(&chunk) {
                Passed::First(size) => {
                    chunk.truncate(size);
                    chunk
                }
                Passed::Kept(kept) => kept,
            };
        }
        self.held.extend_from_slice(&chunk);
        if let Err(line) = event_end(&self.held, 0, self.line)
            && self.held.len() <= MAX_HELD
        {
            self.line = line;
            return Bytes::new();
        }
        let mut joined = self.held.split().freeze();
        match self.scan(&joined) {
            Passed::First(size) => {
                joined.truncate(size);
                joined
            }
            Passed::Kept(kept) => kept,
        }
    }

    /// How many bytes of an event wait for the rest of it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The end of the stream: what was held back. Of one that broke off it is read, and goes no further.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.held.split().freeze();
        let keep = rest.is_empty() || self.event(&rest, false);
        if keep { rest } else { Bytes::new() }
    }

    /// Looks at the whole events in the bytes, and holds what follows them.
    fn scan(&mut self, bytes: &[u8]) -> Passed {
        let mut kept: Option<BytesMut> = None;
        let mut start = 0;
        let mut line = std::mem::take(&mut self.line);
        while !self.done {
            let end = match event_end(bytes, start, line) {
                Ok(end) => end,
                Err(last) => {
                    self.line = last - start;
                    break;
                }
            };
            self.cut = false;
            let event = bytes.get(start..end.at).unwrap_or_default();
            let keep = self.event(event, end.one_line);
            match (&mut kept, keep) {
                (None, false) => {
                    kept = Some(BytesMut::from(bytes.get(..start).unwrap_or_default()));
                }
                (Some(kept), true) => kept.extend_from_slice(event),
                (None, true) | (Some(_), false) => {}
            }
            start = end.at;
            line = start;
        }
        let rest = bytes.get(start..).unwrap_or_default();
        let rest = if self.done { &[] } else { rest };
        let too_large = rest.len() > MAX_HELD;
        if too_large {
            self.shown.unread += 1;
            self.line = 0;
            self.cut = true;
        } else {
            self.held.extend_from_slice(rest);
        }
        match kept {
            Some(mut kept) => {
                if too_large {
                    kept.extend_from_slice(rest);
                }
                Passed::Kept(kept.freeze())
            }
            None if too_large => Passed::First(bytes.len()),
            None => Passed::First(start),
        }
    }

    /// Looks at one whole event; false if it is to be taken out.
    fn event(&mut self, event: &[u8], one_line: bool) -> bool {
        let data = match event.strip_prefix(b"data:") {
            Some(value) if one_line => Cow::Borrowed(value.trim_ascii()),
            Some(_) | None => {
                let data = data_of(event);
                let whole = event.trim_ascii();
                // A JSON answer that calls itself a stream.
                if data.is_empty() && whole.starts_with(b"{") {
                    Cow::Borrowed(whole)
                } else {
                    data
                }
            }
        };
        let is_json = data.first() == Some(&b'{');
        if !is_json && self.grammar.end.is_some_and(|end| *data == *end.as_bytes()) {
            self.done = true;
            return true;
        }
        self.any |= !data.is_empty();
        let mut keep = true;
        // The usual end of a chunk spares a search: the last member of the name counts.
        if !data.ends_with(b"\"usage\":null}") && USAGE.names_object(&data) {
            let earlier = self.usage.or(self.input);
            self.usage = (self.read_usage)(&data, earlier).or(self.usage);
            if let Some(read) = self.grammar.read_input
                && self.usage.is_none()
            {
                self.input = read(&data).or(self.input);
            }
            keep = !(self.strip && (self.grammar.only_usage)(&data));
        }
        // An error among the last events is found at the end.
        self.failed |= data.starts_with(b"{\"error\"") && has_error(&data)
            || !one_line && !data.is_empty() && name_of(event) == Some(b"error");
        self.shown.keep(&data);
        if self.model_within > 0 && self.model.is_none() {
            self.model_within -= 1;
            self.model = answered_model(&data).map(Box::from);
        }
        keep
    }
}

// === impl Shown ===

impl Shown {
    /// Takes one more event.
    fn keep(&mut self, data: &[u8]) {
        if self.more == 0 && self.first.len() + data.len() <= MAX_FIRST {
            self.first.extend_from_slice(data);
            self.ends
                .push(u32::try_from(self.first.len()).unwrap_or(u32::MAX));
            return;
        }
        self.more += 1;
        self.more_bytes += u64::try_from(data.len()).unwrap_or(0);
        self.last.rotate_left(1);
        if let Some(last) = self.last.last_mut() {
            last.clear();
            last.extend_from_slice(data);
        }
    }

    fn first(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let end = |place: usize| {
            let end = self.ends.get(place).copied().unwrap_or(0);
            usize::try_from(end).unwrap_or(0)
        };
        (0..self.ends.len()).map(move |place| {
            let start = place.checked_sub(1).map_or(0, end);
            self.first.get(start..end(place)).unwrap_or_default()
        })
    }

    /// The last events.
    fn last(&self) -> impl Iterator<Item = &[u8]> {
        let more = usize::try_from(self.more).unwrap_or(LAST).min(LAST);
        let last = self.last.iter().rev().take(more).map(Vec::as_slice);
        last.chain(self.first().rev()).take(LAST)
    }

    /// What the model wrote in all of them.
    fn text(&self, grammar: &Grammar) -> Text {
        let mut text = Text::default();
        let (mut around, mut deltas) = (0, 0);
        for data in self.first() {
            let before = text.bytes();
            if (grammar.event)(data, &mut text).text {
                let size = u64::try_from(data.len()).unwrap_or(0);
                around += size.saturating_sub(text.bytes() - before);
                deltas += 1;
            }
        }
        let around = self.more.saturating_mul(around) / deltas.max(1);
        text.more(self.more_bytes.saturating_sub(around), self.more);
        text.unread(self.unread);
        text
    }
}

/// Whether the first bytes of a stream hold a whole event with data. Comments, which keep connections open, are none.
#[must_use]
pub fn has_event(begin: &[u8]) -> bool {
    let mut start = 0;
    while let Ok(end) = event_end(begin, start, start) {
        let event = begin.get(start..end.at).unwrap_or_default();
        if lines(event).any(|line| line.starts_with(b"data:")) {
            return true;
        }
        start = end.at;
    }
    false
}

/// The end of the event that begins at `start`; its lines before `line` have been searched. `Err` has
/// where the last line begins, if the event is not whole.
fn event_end(bytes: &[u8], start: usize, line: usize) -> Result<End, usize> {
    let mut at = line;
    // How many lines have been searched is not known.
    let mut lines = if line > start { 2 } else { 0 };
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let line_end = at + memchr2(b'\n', b'\r', rest).ok_or(at)?;
        let after = after_line_end(bytes, line_end);
        // A CR at the very end may be half of a CRLF: wait for the other half.
        let lone_cr = bytes.get(line_end) == Some(&b'\r') && after == line_end + 1;
        if lone_cr && after == bytes.len() {
            return Err(at);
        }
        // Blank lines before an event belong to it.
        if line_end == at && at > start {
            return Ok(End {
                at: after,
                one_line: lines == 1,
            });
        }
        lines += 1;
        at = after;
    }
}

fn after_line_end(bytes: &[u8], at: usize) -> usize {
    let crlf = bytes.get(at) == Some(&b'\r') && bytes.get(at + 1) == Some(&b'\n');
    at + if crlf { 2 } else { 1 }
}

/// The lines of an event; a stream may begin with a byte order mark.
fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let event = event.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(event);
    event.split(|byte| matches!(byte, b'\n' | b'\r'))
}

/// The `data` of an event: its `data:` lines, joined by line feeds, without blanks around it.
fn data_of(event: &[u8]) -> Cow<'_, [u8]> {
    let mut values = lines(event).filter_map(|line| line.strip_prefix(b"data:"));
    let first = values.next().unwrap_or_default().trim_ascii_start();
    let mut data = Cow::Borrowed(first);
    for value in values {
        let joined = data.to_mut();
        joined.push(b'\n');
        joined.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
    }
    match data {
        Cow::Borrowed(data) => Cow::Borrowed(data.trim_ascii()),
        Cow::Owned(data) => Cow::Owned(data.trim_ascii().to_vec()),
    }
}

/// The name of an event.
fn name_of(event: &[u8]) -> Option<&[u8]> {
    let named = lines(event).filter_map(|line| line.strip_prefix(b"event:"));
    named.last().map(<[u8]>::trim_ascii)
}
