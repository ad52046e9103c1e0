//! The input tokens of a request, counted before it is sent: its text, what the chat format puts
//! around it, its tools, and its images by the published rules.
//!
//! Refuses to judge a request: what it can't read or has no rule for is `None`, and the caller
//! takes the bytes. Refuses to fetch: an image behind a URL counts as the largest.

use std::borrow::Cow;

use proxy_core::names::Operation;
use proxy_core::tokens::Encoding;
use serde::Deserialize;
use serde_json::value::RawValue;

use image::Vision;

mod chat;
mod image;
mod responses;
mod schema;
#[cfg(test)]
mod tests;

/// Largest body looked at: 3 to 9 ms for images, 22 ms for nothing but empty messages.
const MAX_BODY: usize = 4 << 20;
/// Most text that is counted in one request: 1 to 5 ms of prose, 40 ms of nothing but blanks. A
/// larger one is estimated by its bytes.
const MAX_TEXT: usize = 256 << 10;

/// The input tokens of `body` for `model` (not a deployment). Above `budget` the count stops early
/// and some number above `budget` is returned.
///
/// `None`: the model's tokenizer isn't known, the operation has no text prompt, the body is too
/// large or is not what the operation takes, or part of the prompt is kept by the backend.
///
/// Blocks while the model's vocabulary is loaded, once in a process; see [`Encoding::load`].
pub(crate) fn count(body: &[u8], operation: Operation, model: &str, budget: u64) -> Option<u64> {
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
    match operation {
        Operation::ChatCompletions => chat::count(body, &mut tally)?,
        Operation::Responses => responses::count(body, &mut tally)?,
        Operation::Completions => completions(body, &mut tally)?,
        Operation::Embeddings => embeddings(body, &mut tally)?,
        Operation::Messages
        | Operation::Images
        | Operation::Audio
        | Operation::Realtime
        | Operation::Files
        | Operation::Batches
        | Operation::Agents
        | Operation::Models => return None,
    }
    Some(tally.total)
}

/// What was counted so far.
struct Tally {
    encoding: Encoding,
    vision: Vision,
    budget: u64,
    total: u64,
    text_left: usize,
}

impl Tally {
    fn add(&mut self, tokens: u64) {
        self.total = self.total.saturating_add(tokens);
    }

    /// Counts a text; `None` if that is too much for one request.
    fn text(&mut self, text: &str) -> Option<()> {
        if !self.is_over() {
            self.text_left = self.text_left.checked_sub(text.len())?;
            let left = self.budget.saturating_sub(self.total);
            self.add(self.encoding.count(text, left));
        }
        Some(())
    }

    /// Whether the answer is certain.
    const fn is_over(&self) -> bool {
        self.total > self.budget
    }
}

/// A string that is borrowed unless it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A part of a body whose kind is seen from its first byte.
enum Shape<'a> {
    Null,
    Text(Cow<'a, str>),
    List(Vec<&'a RawValue>),
    Object,
}

impl<'a> Shape<'a> {
    fn of(raw: &'a RawValue) -> Option<Self> {
        let json = raw.get();
        match json.as_bytes().first()? {
            b'n' => Some(Self::Null),
            b'"' => Some(Self::Text(read::<Text<'a>>(raw)?.0)),
            b'[' => read(raw).map(Self::List),
            b'{' => Some(Self::Object),
            _ => None,
        }
    }
}

/// Reads a part of a body; what surprises is `None`.
fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
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
