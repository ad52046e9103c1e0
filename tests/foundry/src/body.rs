//! JSON bodies, read field by field, with the model API's words for what is wrong with them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::errors::Failure;

/// A JSON object without a duplicate key at its top.
#[derive(Debug, Default)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}.");
            Failure::invalid(&message, None, None)
        })
    }

    /// The fields of another kind of body.
    pub(crate) fn of(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A field as the caller wrote it, or what stands for it if it is not there.
    pub(crate) fn or(&self, name: &str, default: impl Into<Value>) -> Value {
        self.get(name).cloned().unwrap_or_else(|| default.into())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.typed(name, "a boolean", Value::as_bool)
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&Vec<Value>>, Failure> {
        self.typed(name, "an array", Value::as_array)
    }

    /// A whole number between two bounds.
    pub(crate) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Failure> {
        let number = self.typed(name, "an integer", |value| {
            let signed = value.as_i64().map(i128::from);
            signed.or_else(|| value.as_u64().map(i128::from))
        })?;
        let Some(number) = number else {
            return Ok(None);
        };
        if number < i128::from(least) {
            return Err(out_of_bounds(name, number, "below minimum", ">=", least));
        }
        if number > i128::from(most) {
            return Err(out_of_bounds(name, number, "above maximum", "<=", most));
        }
        Ok(u64::try_from(number).ok())
    }

    /// The names of all fields.
    pub(crate) fn members(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn typed<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let wrong = || {
            let kind = kind(value);
            let message =
                format!("Invalid type for '{name}': expected {expected}, but got {kind} instead.");
            Failure::invalid(&message, Some(name), Some("invalid_type"))
        };
        read(value).map(Some).ok_or_else(wrong)
    }
}

pub(crate) fn missing(name: &str) -> Failure {
    let message = format!("Missing required parameter: '{name}'.");
    Failure::invalid(&message, Some(name), Some("missing_required_parameter"))
}

/// A value that the field does not take.
pub(crate) fn unsupported(name: &str, value: &str, supported: &str) -> Failure {
    let message = format!("Invalid value: '{value}'. Supported values are: {supported}.");
    Failure::invalid(&message, Some(name), Some("invalid_value"))
}

fn out_of_bounds(name: &str, number: i128, word: &str, sign: &str, bound: u64) -> Failure {
    let message = format!(
        "Invalid '{name}': integer {word} value. Expected a value {sign} {bound}, but got {number} \
         instead."
    );
    let code = if sign == ">=" {
        "integer_below_min_value"
    } else {
        "integer_above_max_value"
    };
    Failure::invalid(&message, Some(name), Some(code))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields = Map::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key '{key}'")));
            }
            fields.insert(key, value);
        }
        Ok(Object(fields))
    }
}

#[cfg(test)]
mod tests;
