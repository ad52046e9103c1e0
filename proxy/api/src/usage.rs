//! The usage that answers report, in every spelling. Missing usage is unknown, never 0.
//!
//! Of two spellings of one number the larger counts, and a whole never less than its parts: what a
//! provider bills is charged. A number that is not one is not told, and spoils no other.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use proxy_core::names::Usage;

use crate::body::Malformed;
use crate::json::{Cursor, member};
use crate::member::Name;

#[cfg(test)]
mod tests;

pub(crate) static USAGE: LazyLock<Name> = LazyLock::new(|| Name::new(b"\"usage\""));
static MODEL: LazyLock<Name> = LazyLock::new(|| Name::new(b"\"model\""));

/// Longest name of a model that is taken from an answer: it goes into a log.
const MAX_MODEL: usize = 256;

/// Reads the usage of a whole JSON answer, or of the data of one event of a stream, on top of what
/// earlier events of the stream reported. `None` if this one reports none.
pub type Reader = fn(data: &[u8], earlier: Option<Usage>) -> Option<Usage>;

/// Reads what the data of an event tells before the output is known.
pub type InputReader = fn(data: &[u8]) -> Option<Usage>;

/// The top-level `usage` of an operation whose model writes: unknown without its output.
pub fn generation(data: &[u8], _earlier: Option<Usage>) -> Option<Usage> {
    told(data)?.of_generation()
}

/// The top-level `usage` of an operation without output, such as embeddings.
pub fn without_output(data: &[u8], _earlier: Option<Usage>) -> Option<Usage> {
    told(data)?.of_input()
}

/// The `usage` of a response, or of the response in the last event of its stream.
pub fn response(data: &[u8], earlier: Option<Usage>) -> Option<Usage> {
    generation(data, earlier).or_else(|| generation(member(data, "response")?, earlier))
}

/// The length of the sound that an answer is about, in seconds: a number, of older versions as a string.
pub fn sound(seconds: &[u8]) -> Option<Usage> {
    let seconds = seconds.strip_prefix(b"\"").unwrap_or(seconds);
    let seconds = seconds.strip_suffix(b"\"").unwrap_or(seconds);
    let sound_ms = millis(decimal(seconds)?);
    Some(Usage {
        sound_ms,
        input_tokens: tokens_of_sound(sound_ms),
        ..Usage::default()
    })
}

/// What sound comes to that is billed by its length, for limits that count tokens: ten a second (`OpenAI`, "Managing
/// costs", Realtime).
const fn tokens_of_sound(sound_ms: u64) -> u64 {
    sound_ms.div_ceil(100)
}

/// The `usage` of a message, or of an event `message_delta`: its numbers are those of the whole answer so far,
/// and the input is left out if an earlier event told it.
pub fn message(data: &[u8], earlier: Option<Usage>) -> Option<Usage> {
    let told = told(data)?;
    match (told.all_input(), earlier) {
        (None, Some(earlier)) => {
            let output = told.usage(0, told.output?);
            Some(Usage {
                output_tokens: output.output_tokens,
                reasoning_tokens: output.reasoning_tokens,
                ..earlier
            })
        }
        _ => told.of_generation(),
    }
}

/// The model that answered, by the top-level `model`: the one that a router has chosen.
#[must_use]
pub fn answered_model(data: &[u8]) -> Option<Cow<'_, str>> {
    let mut cursor = MODEL.last_in(data)?;
    if cursor.peek() != Some(b'"') {
        return None;
    }
    // Azure's first chunk has an empty one.
    let model = cursor.string().ok()?;
    (1..=MAX_MODEL).contains(&model.len()).then_some(model)
}

/// What a usage object tells.
#[derive(Debug, Default)]
struct Told {
    prompt: Option<u64>,
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    /// Beside an `input_tokens` that does not contain them, as Anthropic counts.
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    of_input: Parts,
    of_output: Parts,
    by_length: bool,
    sound: Duration,
}

/// What `*_details` tell.
#[derive(Debug, Default)]
struct Parts {
    cached: Option<u64>,
    cache_written: Option<u64>,
    audio: Option<u64>,
    images: Option<u64>,
    reasoning: Option<u64>,
}

fn told(data: &[u8]) -> Option<Told> {
    // Azure's answers end with it: what follows nothing but the last brace needs no other proof.
    if let Some(mut last) = USAGE.last_at_any_depth(data)
        && let Some(told) = Told::read(&mut last)
        && data.get(last.at..)?.trim_ascii() == b"}"
    {
        return Some(told);
    }
    Told::read(&mut USAGE.last_in(data)?)
}

// === impl Told ===

impl Told {
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        if cursor.peek() != Some(b'{') {
            return None;
        }
        let mut told = Self::default();
        cursor
            .object(1, |cursor, name, depth| told.member(cursor, name, depth))
            .ok()?;
        Some(told)
    }

    fn member(
        &mut self,
        cursor: &mut Cursor<'_>,
        name: &[u8],
        depth: usize,
    ) -> Result<(), Malformed> {
        let number = match name {
            b"prompt_tokens" => &mut self.prompt,
            b"input_tokens" => &mut self.input,
            b"completion_tokens" | b"output_tokens" => &mut self.output,
            b"total_tokens" => &mut self.total,
            b"cache_read_input_tokens" => &mut self.cache_read,
            b"cache_creation_input_tokens" => &mut self.cache_written,
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => {
                return self.of_input.object(cursor, depth);
            }
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => {
                return self.of_output.object(cursor, depth);
            }
            b"type" => {
                self.by_length = cursor.scalar(depth)? == b"\"duration\"";
                return Ok(());
            }
            b"seconds" => {
                self.sound = decimal(cursor.scalar(depth)?).unwrap_or_default();
                return Ok(());
            }
            _ => return cursor.skip(depth),
        };
        read(number, cursor, depth)
    }

    /// All input, if told: OpenAI's contains what was cached, Anthropic's does not. Of sound it may be told by its
    /// length.
    fn all_input(&self) -> Option<u64> {
        let cache = self.cache_read.unwrap_or(0);
        let cache = cache.saturating_add(self.cache_written.unwrap_or(0));
        match (self.prompt, self.input) {
            (Some(prompt), input) => Some(prompt.max(input.unwrap_or(0))),
            (None, None) if self.by_length => Some(tokens_of_sound(millis(self.sound))),
            (None, input) => Some(input?.saturating_add(cache)),
        }
    }

    fn of_generation(&self) -> Option<Usage> {
        if self.by_length {
            return Some(self.usage(self.all_input().unwrap_or(0), self.output.unwrap_or(0)));
        }
        let reasoning = self.of_output.reasoning.unwrap_or(0);
        // Thoughts that are more than the output are not in it.
        let apart = |output: u64| if output < reasoning { reasoning } else { 0 };
        let output = self
            .output
            .map(|output| output.saturating_add(apart(output)));
        let input = match (self.all_input(), self.total, output) {
            (Some(input), _, _) => input,
            (None, Some(total), Some(output)) => total.checked_sub(output)?,
            (None, _, _) => return None,
        };
        // A total that knows no more than the input tells nothing about the output.
        let beyond = self.total.unwrap_or(0).saturating_sub(input);
        let output = output.or_else(|| (beyond > 0).then_some(beyond))?;
        if input == 0 && output == 0 && beyond == 0 && reasoning == 0 {
            // Some backends send zeros until they know.
            return None;
        }
        Some(self.usage(input, output.max(beyond).max(reasoning)))
    }

    fn of_input(&self) -> Option<Usage> {
        let input = self.all_input().or(self.total)?;
        let output = self.output.unwrap_or(0);
        let input = input.max(self.total.unwrap_or(0).saturating_sub(output));
        Some(self.usage(input, output))
    }

    /// No part is larger than the whole.
    fn usage(&self, input_tokens: u64, output_tokens: u64) -> Usage {
        let of_input = |part: Option<u64>| part.unwrap_or(0).min(input_tokens);
        let of_output = |part: Option<u64>| part.unwrap_or(0).min(output_tokens);
        Usage {
            input_tokens,
            cached_input_tokens: of_input(self.of_input.cached.max(self.cache_read)),
            cache_write_tokens: of_input(self.of_input.cache_written.max(self.cache_written)),
            audio_input_tokens: of_input(self.of_input.audio),
            image_input_tokens: of_input(self.of_input.images),
            output_tokens,
            reasoning_tokens: of_output(self.of_output.reasoning),
            audio_output_tokens: of_output(self.of_output.audio),
            image_output_tokens: of_output(self.of_output.images),
            sound_ms: if self.by_length {
                millis(self.sound)
            } else {
                0
            },
        }
    }
}

// === impl Parts ===

impl Parts {
    fn object(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Malformed> {
        if cursor.peek() != Some(b'{') {
            return cursor.skip(depth);
        }
        cursor.object(depth + 1, |cursor, name, depth| {
            let number = match name {
                b"cached_tokens" => &mut self.cached,
                b"cache_write_tokens" => &mut self.cache_written,
                b"audio_tokens" => &mut self.audio,
                b"image_tokens" => &mut self.images,
                b"reasoning_tokens" | b"thinking_tokens" => &mut self.reasoning,
                _ => return cursor.skip(depth),
            };
            read(number, cursor, depth)
        })?;
        Ok(())
    }
}

/// Reads one spelling of a number; the largest counts.
fn read(number: &mut Option<u64>, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Malformed> {
    if let Some((plain, size)) = plain(cursor.bytes.get(cursor.at..).unwrap_or_default()) {
        cursor.at += size;
        *number = (*number).max(Some(plain));
        return Ok(());
    }
    *number = (*number).max(tokens(cursor.scalar(depth)?));
    Ok(())
}

/// A whole number as nearly all are, and how many digits it has.
fn plain(bytes: &[u8]) -> Option<(u64, usize)> {
    // No more digits than always fit.
    let digits = bytes.iter().take(18);
    let digits = digits.take_while(|byte| byte.is_ascii_digit()).count();
    let (text, rest) = bytes.split_at_checked(digits)?;
    let is_whole = matches!(rest.first(), Some(b',' | b'}' | b' ' | b'\n' | b'\r'));
    let is_padded = digits > 1 && text.first() == Some(&b'0');
    let value = text
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    (digits > 0 && is_whole && !is_padded).then_some((value, digits))
}

/// A number of tokens, rounded up; `None` for anything that is not one.
fn tokens(text: &[u8]) -> Option<u64> {
    let whole = std::str::from_utf8(text).ok()?.parse().ok();
    whole.or_else(|| {
        let decimal = decimal(text)?;
        let part = u64::from(decimal.subsec_nanos() > 0);
        decimal.as_secs().checked_add(part)
    })
}

/// Rounded up.
fn millis(sound: Duration) -> u64 {
    u64::try_from(sound.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A number that is not negative; a duration is the one type of std that checks a decimal.
fn decimal(text: &[u8]) -> Option<Duration> {
    let first = text.first()?;
    if !matches!(first, b'-' | b'0'..=b'9') {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    Duration::try_from_secs_f64(number).ok()
}
