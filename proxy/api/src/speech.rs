//! What speech answers: sound that tells nothing, or events of sound, the last one of which has the usage.

use proxy_core::names::Usage;

use crate::error::ErrorEvent;
use crate::json::member;
use crate::stream::{Grammar, Said};
use crate::text::Text;
use crate::usage::generation;

#[cfg(test)]
mod tests;

/// `{"type":"speech.audio.delta","audio":...}`, and `speech.audio.done` at the end.
pub(crate) static GRAMMAR: Grammar = Grammar {
    event,
    answer: None,
    only_usage: |_data| false,
    end: None,
    read_input: None,
    thought: None,
    error: ErrorEvent::Unnamed,
};

fn event(data: &[u8], _text: &mut Text) -> Said {
    let kind = member(data, "type").unwrap_or_default();
    Said {
        text: false,
        finish: kind == b"\"speech.audio.done\"",
        failed: kind == b"\"error\"",
    }
}

/// The usage of the last event. All output is sound: it has a price of its own.
pub(crate) fn usage(data: &[u8], earlier: Option<Usage>) -> Option<Usage> {
    let usage = generation(data, earlier)?;
    Some(Usage {
        audio_output_tokens: usage.output_tokens,
        ..usage
    })
}
