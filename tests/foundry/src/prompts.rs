//! Inputs of the older APIs: one or several, each a text or a list of tokens.

use serde_json::Value;

use crate::{
    body::{Object, missing},
    errors::Failure,
    measure::Measure,
};

/// More inputs than the API takes at once.
const MAX_INPUTS: usize = 2048;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    /// As numbers; only their count matters here.
    Tokens(u64),
}

impl Prompt {
    /// Reads a field; at least one input is there.
    pub(crate) fn read(body: &Object, name: &str) -> Result<Vec<Self>, Failure> {
        let wrong = || {
            let message = format!(
                "Invalid type for '{name}': expected a string, an array of strings, an array of \
                 integers, or an array of arrays of integers."
            );
            Failure::invalid(&message, Some(name), Some("invalid_type"))
        };
        let value = body.get(name).ok_or_else(|| missing(name))?;
        let inputs = match value.as_array() {
            Some(items) if items.iter().all(Value::is_number) => vec![Self::tokens(items)],
            Some(items) => {
                let inputs: Option<Vec<Self>> = items.iter().map(Self::one).collect();
                inputs.ok_or_else(wrong)?
            }
            None => vec![Self::one(value).ok_or_else(wrong)?],
        };
        if inputs.iter().any(Self::is_empty) {
            let message = format!("Invalid '{name}': input cannot be empty.");
            return Err(Failure::invalid(
                &message,
                Some(name),
                Some("invalid_value"),
            ));
        }
        if inputs.len() > MAX_INPUTS {
            let message =
                format!("Invalid '{name}': array too long. Expected at most {MAX_INPUTS} items.");
            return Err(Failure::invalid(
                &message,
                Some(name),
                Some("array_above_max_length"),
            ));
        }
        Ok(inputs)
    }

    fn one(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Array(items) if items.iter().all(Value::is_number) => Some(Self::tokens(items)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }

    fn tokens(items: &[Value]) -> Self {
        Self::Tokens(u64::try_from(items.len()).unwrap_or(u64::MAX))
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Tokens(count) => *count == 0,
        }
    }

    /// The text, or nothing for tokens: no vocabulary is here to read them.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Tokens(_) => "",
        }
    }

    /// Tokens that the model reads.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Text(text) => Measure::text(text).tokens(),
            Self::Tokens(count) => *count,
        }
    }

    /// Tokens as the limits see them.
    pub(crate) fn estimate(&self) -> u64 {
        match self {
            Self::Text(text) => Measure::text(text).estimate(),
            Self::Tokens(count) => *count,
        }
    }
}

#[cfg(test)]
mod tests;
