//! The usage that answers report. Missing usage is unknown, never 0.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use proxy_core::names::Usage;

use crate::body::{Malformed, malformed};
use crate::json::Cursor;

#[cfg(test)]
mod tests;

/// The member's name as it stands in JSON. Within a string its quotes would be escaped, so these
/// bytes are a name, or a whole string that no colon follows.
pub(crate) static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// Reads the usage of a whole JSON answer, or of the data of one event of a stream, on top of what
/// earlier events of the stream reported. `None` if this one reports none.
pub type Reader = fn(data: &[u8], earlier: Option<Usage>) -> Option<Usage>;

/// The `usage` object in every shape that `OpenAI`'s APIs have for it; the last, if several members
/// have the name.
///
/// Reads nothing but that: an answer of many small members would cost more to walk than to relay.
pub(crate) fn openai(body: &[u8], _earlier: Option<Usage>) -> Option<Usage> {
    let named = NAME.find_iter(body);
    named
        .filter_map(|at| reported(body.get(at + NAME.needle().len()..)?))
        .last()
}

/// Reads the value after the name, if it is a usage object.
fn reported(rest: &[u8]) -> Option<Usage> {
    let bytes = rest
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    if !bytes.starts_with(b"{") {
        return None;
    }
    let mut cursor = Cursor { bytes, at: 0 };
    let (mut input, mut output, mut cached) = (None, None, None);
    let read = cursor.object(1, |cursor, name, depth| {
        match name {
            b"prompt_tokens" | b"input_tokens" => input = tokens(cursor, depth)?,
            b"completion_tokens" | b"output_tokens" => output = tokens(cursor, depth)?,
            b"prompt_tokens_details" | b"input_tokens_details" if cursor.peek() == Some(b'{') => {
                cursor.object(depth + 1, |cursor, name, depth| match name {
                    b"cached_tokens" => {
                        cached = tokens(cursor, depth)?;
                        Ok(())
                    }
                    _ => cursor.skip(depth),
                })?;
            }
            _ => cursor.skip(depth)?,
        }
        Ok(())
    });
    read.ok()?;
    Some(Usage {
        input_tokens: input?,
        cached_input_tokens: cached.unwrap_or(0),
        // Embeddings have no output.
        output_tokens: output.unwrap_or(0),
    })
}

fn tokens(cursor: &mut Cursor<'_>, depth: usize) -> Result<Option<u64>, Malformed> {
    let text = cursor.scalar(depth)?;
    if text == b"null" {
        return Ok(None);
    }
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    number.map_or_else(
        || malformed("not a number of tokens"),
        |number| Ok(Some(number)),
    )
}
