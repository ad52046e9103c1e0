//! The usage that answers report. Missing usage is unknown, never 0.

use memchr::memmem;
use proxy_core::names::Usage;
use serde::Deserialize;

#[cfg(test)]
mod tests;

/// The member's name as it stands in JSON. Within a string its quotes would be escaped, so these
/// bytes are a name, or a whole string that no colon follows.
const NAME: &[u8] = b"\"usage\"";

#[derive(Deserialize)]
struct Reported {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
    #[serde(alias = "input_tokens_details")]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

/// Reads the usage of a whole JSON answer, or of the data of one event of a stream, on top of what
/// earlier events of the stream reported. `None` if this one reports none.
pub type Reader = fn(data: &[u8], earlier: Option<Usage>) -> Option<Usage>;

/// The `usage` object in every shape that `OpenAI`'s APIs have for it; the last, if several members
/// have the name.
///
/// Reads nothing but that: an answer of many small members would cost more to walk than to relay.
pub(crate) fn openai(body: &[u8], _earlier: Option<Usage>) -> Option<Usage> {
    let named = memmem::find_iter(body, NAME);
    named
        .filter_map(|at| reported(body.get(at + NAME.len()..)?))
        .last()
}

/// Reads the value after the name, if it is a usage object.
fn reported(rest: &[u8]) -> Option<Usage> {
    let rest = rest
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    if !rest.starts_with(b"{") {
        return None;
    }
    // A stream of values, of which the first is wanted: what follows it is the rest of the answer.
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Reported>();
    let reported = values.next()?.ok()?;
    Some(Usage {
        input_tokens: reported.prompt_tokens?,
        cached_input_tokens: reported
            .prompt_tokens_details
            .and_then(|details| details.cached_tokens)
            .unwrap_or(0),
        // Embeddings have no output.
        output_tokens: reported.completion_tokens.unwrap_or(0),
    })
}
