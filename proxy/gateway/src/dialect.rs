//! Which API a path speaks: operation, dialect, and the model where the path names it.
//!
//! A closed list: a path that is not on it is not served, so nothing reaches a backend unjudged.

use std::borrow::Cow;
use std::sync::Arc;

use proxy_core::names::Operation;

#[cfg(test)]
mod tests;

/// The API that a client speaks. Tells the shape of errors, and the path that goes upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/openai/deployments/{deployment}/...?api-version=YYYY-MM-DD`.
    Dated,
    /// `/openai/v1/...` and `/v1/...`.
    V1,
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) dialect: Dialect,
    pub(crate) operation: Operation,
    /// The model, where the path names it; percent-decoded.
    pub(crate) model: Option<Arc<str>>,
    /// For [`Operation::Models`]: the one model asked for.
    pub(crate) one_model: bool,
}

/// Why a path is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// It is ambiguous: proxies and servers read such paths differently.
    Ambiguous,
    /// It is not on the list.
    Unknown,
}

/// Reads a path.
///
/// # Errors
/// [`Unserved`].
pub(crate) fn target(path: &str) -> Result<Target, Unserved> {
    if is_ambiguous(path) {
        return Err(Unserved::Ambiguous);
    }
    let chat = |dialect, model| Target {
        dialect,
        operation: Operation::ChatCompletions,
        model,
        one_model: false,
    };
    let (v1, rest) = if let Some(rest) = path.strip_prefix("/openai/v1/") {
        (true, rest)
    } else if let Some(rest) = path.strip_prefix("/v1/") {
        (true, rest)
    } else if let Some(rest) = path.strip_prefix("/openai/") {
        (false, rest)
    } else {
        return Err(Unserved::Unknown);
    };
    // Azure's own clients put `deployments/{model}` behind a v1 base URL, too.
    if let Some(rest) = rest.strip_prefix("deployments/") {
        let (model, operation) = rest.split_once('/').ok_or(Unserved::Unknown)?;
        let model = decode(model)
            .filter(|model| !model.is_empty())
            .ok_or(Unserved::Ambiguous)?;
        return match operation {
            "chat/completions" => {
                let dialect = if v1 { Dialect::V1 } else { Dialect::Dated };
                Ok(chat(dialect, Some(model.into())))
            }
            _ => Err(Unserved::Unknown),
        };
    }
    let dialect = if v1 { Dialect::V1 } else { Dialect::Dated };
    let models = |model: Option<&str>| Target {
        dialect,
        operation: Operation::Models,
        one_model: model.is_some(),
        model: model.map(Into::into),
    };
    match rest {
        "chat/completions" if v1 => Ok(chat(Dialect::V1, None)),
        "models" => Ok(models(None)),
        _ => match rest.strip_prefix("models/") {
            Some(model) if !model.is_empty() && !model.contains('/') => {
                let model = decode(model).ok_or(Unserved::Ambiguous)?;
                Ok(models(Some(&model)))
            }
            Some(_) | None => Err(Unserved::Unknown),
        },
    }
}

/// Empty and dot segments, encoded separators, parameters and control characters: read
/// differently by different servers (`reliability` of path matching depends on refusing them).
fn is_ambiguous(path: &str) -> bool {
    let segments = path.split('/').skip(1);
    for segment in segments {
        let Some(decoded) = decode(segment) else {
            return true;
        };
        if segment.is_empty() || matches!(&*decoded, "." | "..") {
            return true;
        }
    }
    path.bytes()
        .any(|byte| matches!(byte, b';' | b'\\' | 0..=0x20 | 0x7f..))
}

/// Percent-decodes one segment; `None` if it is invalid or hides a separator or a control
/// character. A model name with an encoded slash is the exception that clients need.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains('\\') && !text.contains(char::is_control)).then_some(Cow::Owned(text))
}

/// The value of a query parameter, percent-decoded. `Err` if it is there twice.
pub(crate) fn parameter(query: Option<&str>, wanted: &str) -> Result<Option<String>, ()> {
    let mut found = None;
    for pair in query.unwrap_or("").split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(name).is_some_and(|name| name == wanted) {
            if found.is_some() {
                return Err(());
            }
            found = Some(decode(value).ok_or(())?.into_owned());
        }
    }
    Ok(found)
}

/// Percent-encodes one path segment: everything but unreserved characters (RFC 3986, 2.3).
pub(crate) fn encode(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => {
                text.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(nibble), 16).unwrap_or('0');
                    text.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    text
}
