//! The input tokens of a request, counted before it is sent: its text, what the chat format puts
//! around it, its tools, and its images by the published rules.
//!
//! Refuses to judge a request: what it can't read or has no rule for is `None`, and the caller
//! takes the bytes. Refuses to fetch: an image behind a URL counts as the largest.

use proxy_core::tokens::Encoding;
use serde::Deserialize;
use serde_json::value::RawValue;

mod chat;
mod image;
mod media;
mod responses;
mod schema;
mod tally;
#[cfg(test)]
mod tests;

use image::Vision;
pub use media::{Media, media};
use tally::{Shape, Tally, Text, read};

/// Largest body looked at: 3 to 9 ms for images, 22 ms for nothing but empty messages.
const MAX_BODY: usize = 4 << 20;
/// Most text that is counted in one request: 1 to 5 ms of prose, 40 ms of nothing but blanks. A
/// larger one is estimated by its bytes.
const MAX_TEXT: usize = 256 << 10;

/// How the prompt of an operation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// `messages` of chat completions.
    Chat,
    /// `input` and `instructions` of responses.
    Responses,
    /// `prompt` of completions: texts or tokens.
    Completions,
    /// `input` of embeddings: texts or tokens.
    Embeddings,
}

/// The input tokens of `body` for `model` (not a deployment). Above `budget` the count stops early
/// and some number above `budget` is returned.
///
/// `None`: the model's tokenizer isn't known, the body is too large or is not what the operation
/// takes, or part of the prompt is kept by the backend.
///
/// Blocks while the model's vocabulary is loaded, once in a process; see [`Encoding::load`].
pub fn count(body: &[u8], prompt: Prompt, model: &str, budget: u64) -> Option<u64> {
    let encoding = Encoding::of_model(model)?;
    if body.len() > MAX_BODY {
        return None;
    }
    let body = std::str::from_utf8(body).ok()?;
    let mut tally = Tally {
        encoding,
        vision: Vision::of_model(model),
        budget,
        total: 0,
        text_left: MAX_TEXT,
    };
    match prompt {
        Prompt::Chat => chat::count(body, &mut tally)?,
        Prompt::Responses => responses::count(body, &mut tally)?,
        Prompt::Completions => completions(body, &mut tally)?,
        Prompt::Embeddings => embeddings(body, &mut tally)?,
    }
    Some(tally.total)
}

#[derive(Deserialize)]
struct Completions<'a> {
    #[serde(borrow)]
    prompt: &'a RawValue,
    suffix: Option<String>,
}

fn completions(body: &str, tally: &mut Tally) -> Option<()> {
    let request: Completions<'_> = serde_json::from_str(body).ok()?;
    plain(request.prompt, tally)?;
    tally.text(&request.suffix.unwrap_or_default())
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
}

fn embeddings(body: &str, tally: &mut Tally) -> Option<()> {
    let request: Embeddings<'_> = serde_json::from_str(body).ok()?;
    plain(request.input, tally)
}

/// A string, several, the tokens of one, or the tokens of several.
fn plain(raw: &RawValue, tally: &mut Tally) -> Option<()> {
    let items = match Shape::of(raw)? {
        Shape::Text(text) => return tally.text(&text),
        Shape::List(items) => items,
        Shape::Null | Shape::Object => return None,
    };
    for item in items {
        if tally.is_over() {
            break;
        }
        match item.get().as_bytes().first()? {
            b'"' => tally.text(&read::<Text<'_>>(item)?.0)?,
            b'[' => {
                let tokens: Vec<u64> = read(item)?;
                tally.add(u64::try_from(tokens.len()).ok()?);
            }
            b'0'..=b'9' => tally.add(1),
            _ => return None,
        }
    }
    Some(())
}
