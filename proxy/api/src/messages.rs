//! What Anthropic's messages answer: named events, each with a type, and a list of blocks as JSON.

use proxy_core::names::Usage;

use crate::error::ErrorEvent;
use crate::json::{Cursor, member};
use crate::stream::{Grammar, Said};
use crate::text::Text;
use crate::usage;

#[cfg(test)]
mod tests;

/// `message_start` with the input, deltas of blocks, `message_delta` with the usage, `message_stop`.
pub(crate) static GRAMMAR: Grammar = Grammar {
    event,
    answer: Some(answer),
    only_usage: |_data| false,
    end: None,
    read_input: Some(read_input),
    thought: Some(is_thought),
    error: ErrorEvent::Typed,
};

fn event(data: &[u8], text: &mut Text) -> Said {
    let wrote = match member(data, "type").unwrap_or_default() {
        b"\"content_block_delta\"" => member(data, "delta"),
        // The name of a tool.
        b"\"content_block_start\"" => member(data, "content_block"),
        kind => {
            return Said {
                text: false,
                finish: matches!(kind, b"\"message_delta\"" | b"\"message_stop\""),
                failed: kind == b"\"error\"",
            };
        }
    };
    let block = wrote.filter(|block| block.starts_with(b"{"));
    Said {
        text: block.is_some_and(|block| text.message(&mut Cursor::new(block))),
        finish: false,
        failed: false,
    }
}

/// A block of thoughts begins, or goes on. There is one also where its text is withheld (Anthropic, "Thinking").
fn is_thought(data: &[u8]) -> bool {
    let block = member(data, "content_block").or_else(|| member(data, "delta"));
    let kind = block.and_then(|block| member(block, "type"));
    matches!(
        kind,
        Some(
            b"\"thinking\""
                | b"\"redacted_thinking\""
                | b"\"thinking_delta\""
                | b"\"signature_delta\""
        )
    )
}

/// The blocks of the content.
fn answer(answer: &[u8], text: &mut Text) {
    let Some(content) = member(answer, "content").filter(|list| list.starts_with(b"[")) else {
        return;
    };
    // What was read before the JSON breaks counts.
    drop(Cursor::new(content).array(2, |block, depth| {
        if block.peek() == Some(b'{') {
            text.message(&mut Cursor::at(block.bytes, block.at));
        }
        block.skip(depth)
    }));
}

/// The usage at the start: of the output it has the first tokens at most.
fn read_input(data: &[u8]) -> Option<Usage> {
    usage::generation(member(data, "message")?, None)
}
