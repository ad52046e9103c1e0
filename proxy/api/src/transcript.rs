//! What transcriptions and translations answer: JSON with the text, the text itself, or events of it. Models
//! that bill by tokens say how many; those that bill by time say how long the sound was.

use proxy_core::names::Usage;

use crate::error::ErrorEvent;
use crate::json::{Cursor, member};
use crate::stream::{Grammar, Said};
use crate::text::Text;
use crate::usage::{generation, sound};

#[cfg(test)]
mod tests;

/// `{"type":"transcript.text.delta","delta":...}`, and `transcript.text.done` with the usage at the end.
pub(crate) static GRAMMAR: Grammar = Grammar {
    event,
    answer: Some(answer),
    only_usage: |_data| false,
    end: None,
    read_input: None,
    thought: None,
    error: ErrorEvent::Unnamed,
};

fn event(data: &[u8], text: &mut Text) -> Said {
    let kind = member(data, "type").unwrap_or_default();
    let delta = if kind == b"\"transcript.text.delta\"" {
        member(data, "delta")
    } else {
        None
    };
    Said {
        text: delta.is_some_and(|delta| text.delta(&mut Cursor::new(delta))),
        finish: kind == b"\"transcript.text.done\"",
        failed: kind == b"\"error\"",
    }
}

/// `text` of an object; subtitles and plain text are the answer as it is.
fn answer(answer: &[u8], text: &mut Text) {
    match member(answer, "text") {
        Some(written) => drop(text.delta(&mut Cursor::new(written))),
        None => text.plain(answer),
    }
}

/// `usage`. Without it the `duration` that `verbose_json` has, which only models write that bill by time.
pub(crate) fn usage(data: &[u8], earlier: Option<Usage>) -> Option<Usage> {
    generation(data, earlier).or_else(|| sound(member(data, "duration")?))
}
