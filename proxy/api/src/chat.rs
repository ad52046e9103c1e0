//! The events of a chat completion stream.

use memchr::{memchr2, memmem};

use crate::json::member;
use crate::stream::Grammar;

/// `data: {"choices":[{"delta":...}]}`, a last chunk with usage and without choices, `[DONE]`.
pub(crate) static GRAMMAR: Grammar = Grammar {
    text: delta_text,
    only_usage: has_no_choices,
    end: Some("[DONE]"),
};

fn has_no_choices(data: &[u8]) -> bool {
    member(data, "choices").is_some_and(|list| {
        list.iter()
            .filter(|byte| !byte.is_ascii_whitespace())
            .eq(b"[]")
    })
}

/// Bytes of text that a chunk's delta adds, as JSON.
fn delta_text(event: &[u8]) -> Option<usize> {
    let delta = memmem::find(event, b"\"delta\"")?;
    let rest = event.get(delta..)?;
    let text = [
        b"\"content\":\"".as_slice(),
        b"\"arguments\":\"",
        b"\"refusal\":\"",
        b"\"content\": \"",
    ]
    .iter()
    .find_map(|key| Some((memmem::find(rest, key)?, key.len())))
    .and_then(|(at, len)| rest.get(at + len..))?;
    let length = memchr2(b'"', b'\\', text).unwrap_or(text.len());
    let escaped = text.get(length) == Some(&b'\\');
    (length > 0 || escaped).then_some(length.max(1))
}
