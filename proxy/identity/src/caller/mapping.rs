//! From claims to a consumer.

use std::sync::Arc;

use serde_json::Value;

use super::claims::Claims;

#[cfg(test)]
mod tests;

/// The longest name of a consumer, as of one that a Secret names.
const LONGEST_NAME: usize = 253;
/// The longest value of an attribute; longer ones are left out.
const LONGEST_VALUE: usize = 256;
/// Values of one attribute: as many groups as Entra puts into a token.
const MOST_VALUES: usize = 200;

/// Which claims say who a caller is. Claims are named as by [`Claims::find`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The claim that is the consumer's name, such as `oid` or `sub`.
    pub consumer: String,
    /// Attributes with their claims. A list is as many values.
    pub attributes: Vec<(Arc<str>, String)>,
}

/// A caller, by its claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Arc<str>,
    /// Names with values; a name may be there several times.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
    /// An attribute is of groups that the token does not list, since they are too many.
    pub lacks_groups: bool,
}

/// The claims name no consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token names no consumer")]
pub struct Unmapped;

impl Mapping {
    /// The consumer of these claims.
    ///
    /// # Errors
    /// The claim of its name is not there, or cannot be a name: printable ASCII without spaces.
    pub fn consumer(&self, claims: &Claims) -> Result<Consumer, Unmapped> {
        let name = claims.find(&self.consumer).and_then(text);
        let is_name = |name: &String| {
            (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
        };
        let name = name.filter(is_name).ok_or(Unmapped)?;
        let mut attributes = Vec::new();
        let mut lacks_groups = false;
        for (attribute, claim) in &self.attributes {
            let found = claims.find(claim);
            lacks_groups |= claim == "groups" && found.is_none() && claims.has_groups_elsewhere();
            let values = match found {
                Some(Value::Array(many)) => many.as_slice(),
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            let values = values.iter().take(MOST_VALUES).filter_map(text);
            let fitting = values.filter(|value| value.len() <= LONGEST_VALUE);
            attributes.extend(fitting.map(|value| (Arc::clone(attribute), value.into())));
        }
        Ok(Consumer {
            name: name.into(),
            attributes,
            lacks_groups,
        })
    }
}

/// A text, a number or a word of logic; nothing else is one value.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
