//! What chat completions answer: their events and their JSON.

use std::sync::LazyLock;

use crate::error::ErrorEvent;
use crate::json::{Cursor, member};
use crate::member::Name;
use crate::stream::{Grammar, Said};
use crate::text::Text;

pub(crate) static CHOICES: LazyLock<Name> = LazyLock::new(|| Name::new(b"\"choices\""));
static DELTA: LazyLock<Name> = LazyLock::new(|| Name::new(b"\"delta\""));
static FINISH: LazyLock<Name> = LazyLock::new(|| Name::new(b"\"finish_reason\""));

/// `data: {"choices":[{"delta":...}]}`, a last chunk with usage and without choices, `[DONE]`.
pub(crate) static GRAMMAR: Grammar = Grammar {
    event: deltas,
    answer: Some(messages),
    only_usage: is_only_usage,
    end: Some("[DONE]"),
    read_input: None,
    thought: None,
    error: ErrorEvent::Unnamed,
};

pub(crate) fn is_only_usage(data: &[u8]) -> bool {
    let has_usage = member(data, "usage").is_some_and(|usage| usage.starts_with(b"{"));
    has_usage
        && member(data, "choices").is_some_and(|list| {
            list.iter()
                .filter(|byte| !byte.is_ascii_whitespace())
                .eq(b"[]")
        })
}

/// The delta of every choice. Reads little else of the chunk: this runs for every event.
fn deltas(data: &[u8], text: &mut Text) -> Said {
    let (mut end, mut wrote) = (0, false);
    for mut cursor in DELTA.all_in(data) {
        if cursor.at >= end && cursor.peek() == Some(b'{') {
            wrote |= text.message(&mut cursor);
            end = cursor.at;
        }
    }
    // A reason beside text stands behind it in every chunk that was seen; that it is missed otherwise
    // matters only to a stream without `[DONE]`.
    let rest = if wrote { data.get(end..) } else { Some(data) };
    Said {
        text: wrote,
        finish: rest.is_some_and(has_finish_reason),
        failed: false,
    }
}

/// The message of every choice.
fn messages(answer: &[u8], text: &mut Text) {
    let Some(mut choices) = CHOICES.last_in(answer) else {
        return;
    };
    if choices.peek() != Some(b'[') {
        return;
    }
    // What was read before the JSON breaks counts.
    drop(choices.array(2, |choice: &mut Cursor<'_>, depth| {
        if choice.peek() != Some(b'{') {
            return choice.skip(depth);
        }
        choice.object(depth, |cursor, name, depth| {
            if name == b"message" && cursor.peek() == Some(b'{') {
                let mut message = Cursor::at(cursor.bytes, cursor.at);
                text.message(&mut message);
            }
            cursor.skip(depth)
        })?;
        Ok(())
    }));
}

pub(crate) fn has_finish_reason(data: &[u8]) -> bool {
    // Some backends write an empty one instead of null.
    FINISH.all_in(data).any(|value| {
        let rest = data.get(value.at..).unwrap_or_default();
        rest.starts_with(b"\"") && !rest.starts_with(b"\"\"")
    })
}
