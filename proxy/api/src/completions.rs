//! What completions answer, the API before chat: the text stands in the choice itself.

use crate::chat::{CHOICES, has_finish_reason, is_only_usage};
use crate::error::ErrorEvent;
use crate::json::Cursor;
use crate::stream::{Grammar, Said};
use crate::text::Text;

#[cfg(test)]
mod tests;

/// `data: {"choices":[{"text":...}]}`, a last chunk with usage and without choices, `[DONE]`.
pub(crate) static GRAMMAR: Grammar = Grammar {
    event,
    answer: Some(|answer, text| {
        texts(answer, text);
    }),
    only_usage: is_only_usage,
    end: Some("[DONE]"),
    read_input: None,
    thought: None,
    error: ErrorEvent::Unnamed,
};

fn event(data: &[u8], text: &mut Text) -> Said {
    Said {
        text: texts(data, text),
        finish: has_finish_reason(data),
        failed: false,
    }
}

/// The text of every choice. True if there is one.
fn texts(data: &[u8], text: &mut Text) -> bool {
    let mut wrote = false;
    let Some(mut choices) = CHOICES.last_in(data).filter(|at| at.peek() == Some(b'[')) else {
        return false;
    };
    // What was read before the JSON breaks counts.
    drop(choices.array(2, |choice: &mut Cursor<'_>, depth| {
        if choice.peek() != Some(b'{') {
            return choice.skip(depth);
        }
        choice.object(depth, |cursor, name, depth| {
            if name == b"text" && cursor.peek() == Some(b'"') {
                let mut value = Cursor::at(cursor.bytes, cursor.at);
                wrote |= text.delta(&mut value);
            }
            cursor.skip(depth)
        })?;
        Ok(())
    }));
    wrote
}
