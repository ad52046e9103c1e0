//! What the requests of one conversation have in common: the key that the client gives the prompt cache, else the
//! beginning of the prompt, to the end of the first message that is no instruction. The turns that follow only add
//! to that.
//!
//! Reads a part of it only, from the places that the scan has noted. What a client changes between the turns is
//! left out: marks of the cache, and the end of instructions, where the time of day often stands.

use proxy_core::balance::Key;

use crate::body::{Body, Malformed};
use crate::json::Cursor;

#[cfg(test)]
mod tests;

/// Most that is read to find the first message behind instructions: 60,000 tokens.
const READ: usize = 256 << 10;
/// Most that the key is made of, of the instructions and again of the first message.
const TAKEN: usize = 2 << 10;
/// Most that is taken from each end of a part of a message, so that several parts count.
const END: usize = 512;

/// The key of the conversation that a body belongs to, on top of `owner`; `None` if the prompt is too short for a
/// prompt cache, or none is in the body.
///
/// Costs a walk over the instructions and the first message, and the hash of at most 4 KiB.
#[must_use]
pub fn conversation(bytes: &[u8], body: &Body, owner: impl FnOnce() -> Key) -> Option<Key> {
    let beginning = &body.beginning;
    if let Some(at) = beginning.cache_key {
        let key = Cursor::at(bytes, at.get()).string().ok()?;
        if !key.is_empty() {
            return Some(owner().with(b"key").with(key.as_bytes()));
        }
    }
    let messages = beginning.messages?.get();
    let mut sample = Sample {
        key: owner().with(b"prompt"),
        left: TAKEN,
    };
    if let Some(at) = beginning.instructions {
        let read = until(bytes, at.get(), TAKEN * 2);
        sample.content(read, at.get(), Sample::head);
    }
    sample.messages(until(bytes, messages, READ), messages);
    Some(sample.key)
}

/// The bytes up to `read` behind `at`. What the walk meets there depends on these bytes alone, whatever follows.
fn until(bytes: &[u8], at: usize, read: usize) -> &[u8] {
    bytes.get(..at.saturating_add(read)).unwrap_or(bytes)
}

/// What has been taken of a prompt.
struct Sample {
    key: Key,
    /// How much more is taken.
    left: usize,
}

/// The walk is over: all is found, or the text ends here.
fn over<T>() -> Result<T, Malformed> {
    Err(Malformed(String::new()))
}

// === impl Sample ===

impl Sample {
    /// The beginning of instructions.
    fn head(&mut self, text: &[u8]) {
        let head = text.get(..self.left).unwrap_or(text);
        self.left = self.left.saturating_sub(head.len());
        if !head.is_empty() {
            self.key = self.key.with(head);
        }
    }

    /// Both ends of a part of a message, and how long it is.
    fn ends(&mut self, text: &[u8]) {
        let most = END.min(self.left / 2);
        let ends = text.len().checked_sub(most).filter(|rest| *rest > most);
        match ends.and_then(|rest| Some((text.get(..most)?, text.get(rest..)?))) {
            Some((head, tail)) => {
                let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
                self.key = self.key.with(head).with(tail);
                self.key = self.key.with(&length.to_le_bytes());
                self.left = self.left.saturating_sub(most.saturating_mul(2));
            }
            None => {
                self.key = self.key.with(text);
                self.left = self.left.saturating_sub(text.len());
            }
        }
    }

    /// A string, or a list with an object for each part of it: both are the same where they say the same.
    fn content(&mut self, bytes: &[u8], at: usize, take: fn(&mut Self, &[u8])) {
        let mut cursor = Cursor::at(bytes, at);
        if cursor.peek() != Some(b'[') {
            return drop(self.value(&mut cursor, take));
        }
        // It may be cut off; what was taken counts.
        drop(cursor.array(1, |cursor, depth| {
            if cursor.peek() != Some(b'{') {
                return self.value(cursor, take);
            }
            let part = cursor.object(depth, |cursor, name, depth| match name {
                b"type" | b"cache_control" => cursor.skip(depth),
                _ => self.value(cursor, take),
            });
            part.map(|_place| ())
        }));
    }

    /// A value as it is written; of a string without its quotes.
    fn value(
        &mut self,
        cursor: &mut Cursor<'_>,
        take: fn(&mut Self, &[u8]),
    ) -> Result<(), Malformed> {
        let start = cursor.at;
        let skipped = cursor.skip(1);
        let end = if skipped.is_ok() {
            cursor.at
        } else {
            cursor.bytes.len()
        };
        let text = cursor.bytes.get(start..end).unwrap_or_default();
        let text = text.strip_prefix(b"\"").unwrap_or(text);
        take(self, text.strip_suffix(b"\"").unwrap_or(text));
        skipped
    }

    /// Instructions, and the first message that is none.
    fn messages(&mut self, bytes: &[u8], at: usize) {
        let mut cursor = Cursor::at(bytes, at);
        if cursor.peek() != Some(b'[') {
            self.left = TAKEN;
            return self.content(bytes, at, Self::ends);
        }
        drop(cursor.array(1, |cursor, depth| self.message(cursor, depth)));
    }

    fn message(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Malformed> {
        let start = cursor.at;
        let (mut content, mut instructs) = (start, false);
        let read = if cursor.peek() == Some(b'{') {
            let read = cursor.object(depth, |cursor, name, depth| {
                let at = cursor.at;
                match name {
                    b"content" => content = at,
                    b"role" => {
                        let role = cursor.scalar(depth)?;
                        instructs = matches!(role, b"\"system\"" | b"\"developer\"");
                        return Ok(());
                    }
                    _ => {}
                }
                cursor.skip(depth)
            });
            read.map(|_place| ())
        } else {
            cursor.skip(depth)
        };
        if instructs {
            self.content(cursor.bytes, content, Self::head);
            return read;
        }
        self.left = TAKEN;
        self.content(cursor.bytes, content, Self::ends);
        over()
    }
}
