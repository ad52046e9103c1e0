//! The `usage` object of answers, in every shape that `OpenAI`'s dialect has for it.
//!
//! Missing usage is unknown, never 0.

use proxy_core::names::Usage;
use serde::Deserialize;

use crate::scan;

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

/// The usage of a whole JSON answer, or of the data of one stream event.
pub(crate) fn of_answer(body: &[u8]) -> Option<Usage> {
    let reported: Reported = serde_json::from_slice(scan::member(body, "usage")?).ok()?;
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
