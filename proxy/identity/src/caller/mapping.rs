//! From claims to a consumer.

use std::sync::Arc;

use proxy_core::auth::Mapping;
use proxy_core::names::Attributes;
use serde_json::Value;

use super::claims::Claims;

#[cfg(test)]
mod tests;

/// The longest name of a consumer, as of one that a Secret names.
const LONGEST_NAME: usize = 253;
/// The longest value of an attribute; longer ones are left out.
const LONGEST_VALUE: usize = 256;
/// Claims that are a list of words in one text (RFC 8693, 4.2; Entra).
const SCOPES: [&str; 2] = ["scope", "scp"];

/// A caller, by its claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Arc<str>,
    /// Sorted, so that the first value of an attribute is the same whatever the order within the token.
    pub attributes: Attributes,
    /// An attribute is of groups that the token does not list, since they are too many.
    pub lacks_groups: bool,
}

/// The claims name no consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token names no consumer")]
pub struct Unmapped;

/// The consumer of these claims.
///
/// # Errors
/// The claim of its name is not there, or cannot be a name: printable ASCII without spaces.
pub fn consumer(mapping: &Mapping, claims: &Claims) -> Result<Consumer, Unmapped> {
    let found = claims.find(&mapping.consumer);
    let found = found.or_else(|| claims.find(in_the_other_version(&mapping.consumer)?));
    let is_name = |name: &String| {
        (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    let name = found.and_then(text).filter(is_name).ok_or(Unmapped)?;
    let mut attributes = Attributes::new();
    let mut lacks_groups = false;
    for (attribute, claim) in &mapping.attributes {
        let found = claims.find(claim);
        lacks_groups |= &**claim == "groups" && found.is_none() && claims.has_groups_elsewhere();
        if SCOPES.contains(&&**claim) {
            let scopes = claims.words(claim).into_iter();
            attributes.extend(scopes.map(|scope| (Arc::clone(attribute), scope)));
            continue;
        }
        let values = match found {
            Some(Value::Array(many)) => many.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        let values = values.iter().filter_map(text);
        let fitting = values.filter(|value| value.len() <= LONGEST_VALUE);
        attributes.extend(fitting.map(|value| (Arc::clone(attribute), value.into())));
    }
    attributes.sort();
    attributes.dedup();
    Ok(Consumer {
        name: name.into(),
        attributes,
        lacks_groups,
    })
}

/// Entra's two versions have two names for the calling application.
fn in_the_other_version(claim: &str) -> Option<&'static str> {
    match claim {
        "azp" => Some("appid"),
        "appid" => Some("azp"),
        _ => None,
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
