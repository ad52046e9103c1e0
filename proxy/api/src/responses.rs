//! What responses answer: named events whose data says its own type, and one object at the end.

use crate::error::ErrorEvent;
use crate::json::{Cursor, member};
use crate::stream::{Grammar, Said};
use crate::text::Text;

#[cfg(test)]
mod tests;

/// `{"type":"response.output_text.delta","delta":...}`; the last event has the whole response, with its
/// usage. No event ends the stream but its end.
pub(crate) static GRAMMAR: Grammar = Grammar {
    event,
    answer: Some(answer),
    only_usage: |_data| false,
    end: None,
    read_input: None,
    thought: None,
    error: ErrorEvent::Numbered,
};

/// Every delta is what the model wrote, whatever it is a delta of: text, thoughts, arguments, code. The
/// events that repeat it as a whole do not end so.
fn event(data: &[u8], text: &mut Text) -> Said {
    let kind = member(data, "type").unwrap_or_default();
    let delta = if kind.ends_with(b".delta\"") {
        member(data, "delta")
    } else {
        None
    };
    Said {
        text: delta.is_some_and(|delta| text.delta(&mut Cursor::new(delta))),
        finish: matches!(
            kind,
            b"\"response.completed\"" | b"\"response.incomplete\"" | b"\"response.failed\""
        ),
        failed: matches!(kind, b"\"response.failed\"" | b"\"error\""),
    }
}

/// The items of the output.
fn answer(answer: &[u8], text: &mut Text) {
    let Some(output) = member(answer, "output").filter(|list| list.starts_with(b"[")) else {
        return;
    };
    // What was read before the JSON breaks counts.
    drop(Cursor::new(output).array(2, |item, depth| {
        if item.peek() == Some(b'{') {
            text.message(&mut Cursor::at(item.bytes, item.at));
        }
        item.skip(depth)
    }));
}

/// How far a response has come that is made in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Running,
    /// Nothing more comes, whatever it came to.
    Ended,
}

/// What a response says of itself; `None` if it is no response.
#[must_use]
pub fn progress(answer: &[u8]) -> Option<Progress> {
    match member(answer, "status")? {
        b"\"queued\"" | b"\"in_progress\"" => Some(Progress::Running),
        b"\"completed\"" | b"\"failed\"" | b"\"incomplete\"" | b"\"cancelled\"" => {
            Some(Progress::Ended)
        }
        _ => None,
    }
}
