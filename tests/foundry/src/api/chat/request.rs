//! The body of a chat completion, read for what the simulator needs, and measured.
//!
//! Token rule, so that tests can calculate: its content as `measure` has it, 3 per message, 3 for the
//! reply.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    errors::Failure,
    measure::{Measure, TOKENS_FOR_REPLY, TOKENS_PER_MESSAGE},
};

/// OpenAI's own bound of `n`.
const MAX_CHOICES: i64 = 128;

/// A request that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChatRequest {
    pub(crate) model: Option<String>,
    pub(crate) prompt_tokens: u64,
    /// Tokens of the prompt as the limits see them.
    pub(crate) prompt_estimate: u64,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) choices: u64,
    pub(crate) stream: bool,
    pub(crate) stream_options: Option<StreamOptions>,
    /// The names of all top-level members.
    pub(crate) members: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub(crate) include_usage: Option<bool>,
    #[serde(default)]
    pub(crate) include_obfuscation: Option<bool>,
}

/// The fields as they stand in the body.
#[derive(Debug, Default)]
struct Fields {
    model: Option<String>,
    messages: Option<Messages>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    n: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    members: Vec<String>,
}

#[derive(Debug, Default)]
struct Messages {
    count: u64,
    text: Measure,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "role")]
    _role: Role,
    #[serde(default)]
    content: Measure,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

impl ChatRequest {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Failure> {
        let fields: Fields = serde_json::from_slice(body).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}.");
            Failure::invalid(&message, None, None)
        })?;
        let Some(messages) = fields.messages else {
            return Err(Failure::invalid(
                "Missing required parameter: 'messages'.",
                Some("messages"),
                Some("missing_required_parameter"),
            ));
        };
        if messages.count == 0 {
            return Err(Failure::invalid(
                "Invalid 'messages': empty array. Expected an array with minimum length 1.",
                Some("messages"),
                Some("empty_array"),
            ));
        }
        let max_tokens = bounded("max_tokens", fields.max_tokens, i64::MAX)?;
        let max_completion = bounded(
            "max_completion_tokens",
            fields.max_completion_tokens,
            i64::MAX,
        )?;
        if max_tokens.is_some() && max_completion.is_some() {
            return Err(Failure::invalid(
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not \
                 supported.",
                Some("max_tokens"),
                Some("invalid_parameter_combination"),
            ));
        }
        let Messages { count, text } = messages;
        Ok(Self {
            model: fields.model,
            prompt_tokens: text.tokens() + count * TOKENS_PER_MESSAGE + TOKENS_FOR_REPLY,
            prompt_estimate: text.estimate(),
            max_tokens: max_tokens.or(max_completion),
            choices: bounded("n", fields.n, MAX_CHOICES)?.unwrap_or(1),
            stream: fields.stream.unwrap_or(false),
            stream_options: fields.stream_options,
            members: fields.members,
        })
    }
}

/// A number from 1 to `most`, or nothing.
fn bounded(name: &str, value: Option<i64>, most: i64) -> Result<Option<u64>, Failure> {
    let Some(value) = value else {
        return Ok(None);
    };
    let (bound, word, code) = match value {
        ..=0 => (
            1,
            "below minimum value. Expected a value >=",
            "integer_below_min_value",
        ),
        _ if value > most => (
            most,
            "above maximum value. Expected a value <=",
            "integer_above_max_value",
        ),
        _ => return Ok(u64::try_from(value).ok()),
    };
    let message = format!("Invalid '{name}': integer {word} {bound}, but got {value} instead.");
    Err(Failure::invalid(&message, Some(name), Some(code)))
}

// === impl Fields ===

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            // A handful of keys: a list beats a set.
            if fields.members.contains(&key) {
                return Err(A::Error::custom(format_args!("duplicate key '{key}'")));
            }
            match key.as_str() {
                "model" => fields.model = map.next_value()?,
                "messages" => fields.messages = map.next_value()?,
                "max_tokens" => fields.max_tokens = map.next_value()?,
                "max_completion_tokens" => fields.max_completion_tokens = map.next_value()?,
                "n" => fields.n = map.next_value()?,
                "stream" => fields.stream = map.next_value()?,
                "stream_options" => fields.stream_options = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            fields.members.push(key);
        }
        Ok(fields)
    }
}

// === impl Messages ===

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

struct MessagesVisitor;

impl<'de> Visitor<'de> for MessagesVisitor {
    type Value = Messages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Messages, A::Error> {
        let mut messages = Messages::default();
        while let Some(message) = seq.next_element::<Message>()? {
            messages.count += 1;
            messages.text.add(message.content);
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests;
