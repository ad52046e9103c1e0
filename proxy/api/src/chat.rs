//! The events of a chat completion stream.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

use crate::json::member;
use crate::stream::Grammar;

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
/// The members whose text counts, up to the text.
static TEXTS: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
    [
        b"\"content\":\"".as_slice(),
        b"\"arguments\":\"",
        b"\"refusal\":\"",
        b"\"content\": \"",
    ]
    .map(Finder::new)
});

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
    let rest = event.get(DELTA.find(event)?..)?;
    let text = TEXTS
        .iter()
        .find_map(|key| Some(key.find(rest)? + key.needle().len()))
        .and_then(|at| rest.get(at..))?;
    let length = memchr2(b'"', b'\\', text).unwrap_or(text.len());
    let escaped = text.get(length) == Some(&b'\\');
    (length > 0 || escaped).then_some(length.max(1))
}
