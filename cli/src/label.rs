//! Labels on the command line, as `NAME=VALUE`.

use std::str::FromStr;

use operator_compile::is_subdomain;
use thiserror::Error;

/// Longest part of a name behind its prefix, and longest value.
const LONGEST_PART: usize = 63;

/// A label, of the syntax of Kubernetes:
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The name, with or without a prefix.
    pub name: String,
    /// The value, which may be empty.
    pub value: String,
}

/// A text is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidLabel {
    /// It has no `=`.
    #[error("write NAME=VALUE")]
    Form,
    /// The name is not one of a label.
    #[error(
        "the name of a label has up to 63 letters, digits and inner '-', '_' or '.', behind DOMAIN/ or alone"
    )]
    Name,
    /// The value is not one of a label.
    #[error("the value of a label has up to 63 letters, digits and inner '-', '_' or '.'")]
    Value,
}

// === impl Label ===

impl FromStr for Label {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or(InvalidLabel::Form)?;
        let bare = match name.split_once('/') {
            Some((prefix, _)) if !is_subdomain(prefix) => return Err(InvalidLabel::Name),
            Some((_, bare)) => bare,
            None => name,
        };
        if !is_part(bare) {
            return Err(InvalidLabel::Name);
        }
        if !value.is_empty() && !is_part(value) {
            return Err(InvalidLabel::Value);
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

fn is_part(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= LONGEST_PART
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
        && ends.iter().flatten().all(u8::is_ascii_alphanumeric)
        && !text.is_empty()
}

#[cfg(test)]
mod tests;
