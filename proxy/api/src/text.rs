//! What a model wrote, as far as its answer shows: what an answer without usage is charged by.
//!
//! The rule: what is unknown is never charged below what the answer shows. Where the model's vocabulary
//! is public the text is counted by it, exactly. Else a token is four bytes, but every delta of a stream
//! is one at least. A delta or message that holds something other than text, such as sound, is one
//! token more: how many it is cannot be seen.

use std::ops::Range;

use crate::body::Malformed;
use crate::json::Cursor;

#[cfg(test)]
mod tests;

/// The text that is kept to be counted. What follows is counted by the ratio of this part: 32 KiB are
/// 8,000 tokens, beyond most answers, and a gateway has thousands of streams.
const MAX_KEPT: usize = 32 << 10;
/// Bytes of a token of an unknown vocabulary.
const BYTES_PER_TOKEN: u64 = 4;
/// How deep text is looked for: real answers have five levels.
const MAX_NESTED: usize = 16;

/// What a model wrote: text with its escapes decoded, thoughts and arguments of tools included.
#[derive(Debug, Default)]
pub struct Text {
    /// The first of it.
    kept: Vec<u8>,
    /// The size of all of it.
    bytes: u64,
    /// Deltas or messages with text.
    deltas: u64,
    /// Those with something else.
    opaque: u64,
}

/// What stands under a name in a delta or message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text, or a container of it.
    Text,
    /// A container that has text under other names.
    Frame,
    /// Not written by the model.
    Label,
    /// Something that the model wrote, but not text.
    Opaque,
}

// === impl Text ===

impl Text {
    /// The tokens of the text. `count` counts a text by the model's vocabulary, or returns `None` where
    /// there is none.
    pub fn tokens(&self, count: impl FnOnce(&str) -> Option<u64>) -> u64 {
        let kept = String::from_utf8_lossy(&self.kept);
        let counted = if kept.is_empty() { None } else { count(&kept) };
        let of_text = counted.map_or_else(
            || self.bytes.div_ceil(BYTES_PER_TOKEN).max(self.deltas),
            |tokens| {
                let size = u64::try_from(self.kept.len()).unwrap_or(u64::MAX);
                let product = u128::from(tokens) * u128::from(self.bytes);
                u64::try_from(product.div_ceil(u128::from(size.max(1)))).unwrap_or(u64::MAX)
            },
        );
        of_text.saturating_add(self.opaque)
    }

    /// Adds one delta or message: an object whose brace is next. True if there is text in it.
    pub(crate) fn message(&mut self, cursor: &mut Cursor<'_>) -> bool {
        let start = self.kept.len();
        let mut opaque = false;
        let mut thoughts: Option<Range<usize>> = None;
        let kept = &mut self.kept;
        let read = cursor.object(1, |cursor, name, depth| {
            let from = kept.len();
            part(cursor, name, depth, kept, &mut opaque)?;
            if is_thought(name) && kept.len() > from {
                // Some backends send one thought under two names.
                let earlier = thoughts.get_or_insert(from..kept.len()).clone();
                if earlier.start < from && kept.get(earlier) == kept.get(from..) {
                    kept.truncate(from);
                }
            }
            Ok(())
        });
        let added = self.kept.len() - start;
        if opaque || (added == 0 && read.is_err()) {
            self.opaque += 1;
        }
        self.added(added)
    }

    /// Adds an answer that is nothing but text.
    pub(crate) fn plain(&mut self, answer: &[u8]) {
        let room = MAX_KEPT.saturating_sub(self.kept.len());
        self.kept
            .extend_from_slice(answer.get(..room).unwrap_or(answer));
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(answer.len()).unwrap_or(u64::MAX));
        self.deltas += 1;
    }

    /// Adds one delta that is a string; something else is opaque. True if there is text in it.
    pub(crate) fn delta(&mut self, cursor: &mut Cursor<'_>) -> bool {
        let start = self.kept.len();
        let mut opaque = false;
        // As text, whatever it is called.
        let read = part(cursor, b"text", 1, &mut self.kept, &mut opaque);
        let added = self.kept.len() - start;
        if opaque || read.is_err() {
            self.opaque += 1;
        }
        self.added(added)
    }

    /// Counts what was kept of one delta or message.
    fn added(&mut self, added: usize) -> bool {
        if added > 0 {
            self.deltas += 1;
            self.bytes += u64::try_from(added).unwrap_or(0);
        }
        if self.kept.len() > MAX_KEPT {
            self.kept.truncate(MAX_KEPT);
            self.kept.shrink_to(2 * MAX_KEPT);
        }
        added > 0
    }

    /// The size of the text.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds deltas of which only the size of their text is known.
    pub(crate) fn more(&mut self, bytes: u64, deltas: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if bytes > 0 {
            self.deltas = self.deltas.saturating_add(deltas);
        }
    }

    /// Adds something that cannot be read.
    pub(crate) fn unread(&mut self, times: u64) {
        self.opaque = self.opaque.saturating_add(times);
    }
}

// === impl Kind ===

impl Kind {
    fn of(name: &[u8]) -> Self {
        match name {
            b"content" | b"refusal" | b"text" | b"arguments" | b"name" | b"input"
            | b"partial_json" | b"transcript" | b"summary" | b"code" => Self::Text,
            b"tool_calls" | b"function_call" | b"function" | b"custom" | b"audio" => Self::Frame,
            // Citations are written by a search, and may be whole documents.
            b"role" | b"id" | b"call_id" | b"type" | b"index" | b"format" | b"signature"
            | b"status" | b"phase" | b"context" | b"citation" | b"citations" | b"annotations" => {
                Self::Label
            }
            _ if is_thought(name) => Self::Text,
            _ => Self::Opaque,
        }
    }
}

/// `reasoning`, `reasoning_content`, `reasoning_details`, `thinking`, `thought`.
fn is_thought(name: &[u8]) -> bool {
    let words: [&[u8]; 3] = [b"reasoning", b"thinking", b"thought"];
    words.iter().any(|word| name.starts_with(word))
}

/// Reads one value of a message, and appends its text.
fn part(
    cursor: &mut Cursor<'_>,
    name: &[u8],
    depth: usize,
    text: &mut Vec<u8>,
    opaque: &mut bool,
) -> Result<(), Malformed> {
    let kind = Kind::of(name);
    let enters = matches!(kind, Kind::Text | Kind::Frame) && depth < MAX_NESTED;
    match cursor.peek() {
        Some(b'"') if kind == Kind::Text => {
            let start = cursor.at;
            match cursor.string() {
                Ok(string) => text.extend_from_slice(string.as_bytes()),
                // Half a surrogate: the other half may follow in the next delta.
                Err(_malformed) => {
                    let raw = cursor.bytes.get(start + 1..cursor.at.saturating_sub(1));
                    text.extend_from_slice(raw.unwrap_or_default());
                }
            }
            Ok(())
        }
        // The arguments of a tool have names of their own.
        Some(b'{') if name == b"input" => {
            text.extend_from_slice(cursor.scalar(depth)?);
            Ok(())
        }
        Some(b'{') if enters => cursor
            .object(depth + 1, |cursor, name, depth| {
                part(cursor, name, depth, text, opaque)
            })
            .map(|_| ()),
        Some(b'[') if enters => cursor.array(depth + 1, |cursor, depth| {
            part(cursor, name, depth, text, opaque)
        }),
        Some(b'"' | b'{' | b'[') if kind != Kind::Label => {
            let value = cursor.scalar(depth)?;
            *opaque |= !matches!(value, b"\"\"" | b"{}" | b"[]");
            Ok(())
        }
        _ => cursor.skip(depth),
    }
}
