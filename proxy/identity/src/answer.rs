//! What token endpoints answer: a token, or why not.

use std::time::Duration;

use proxy_core::names::Secret;
use serde::Deserialize;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// The longest part of a description that a log gets.
const DESCRIPTION: usize = 400;
/// A word that begins as JSON in base64, and is no longer, is no token: their heads alone have 20 characters.
const SHORTEST_JWT: usize = 20;
/// No token lives longer; Entra's live a day at most.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A token that was made just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    pub(crate) lives: Duration,
}

/// Why there is no token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Entra's number, `AADSTS...`.
    pub(crate) number: Option<u32>,
    /// The description, without the ids of the request.
    pub(crate) description: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<Seconds>,
    expires_on: Option<Seconds>,
}

/// Entra writes numbers, and the endpoints on machines text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    fn value(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

/// Reads an answer of status 200 that came at `unix_s`, in seconds since 1970.
pub(crate) fn token(body: &[u8], unix_s: u64) -> Result<Token, &'static str> {
    // The error of the parser could show a part of the token.
    let granted: Granted = serde_json::from_slice(body).map_err(|_error| "it is no token")?;
    if granted.access_token.is_empty() {
        return Err("the token is empty");
    }
    let left = granted.expires_in.and_then(Seconds::value);
    let until = granted.expires_on.and_then(Seconds::value);
    let seconds = left.or_else(|| until.map(|until| until.saturating_sub(unix_s)));
    match seconds {
        None => Err("it does not say when the token ends"),
        Some(0) => Err("the token has ended already"),
        Some(seconds) => Ok(Token {
            secret: Secret::new(granted.access_token),
            lives: Duration::from_secs(seconds).min(LONGEST_LIFE),
        }),
    }
}

/// Reads the body of an error. `shown` is the secret of the request, which no log may have; empty if there was none.
pub(crate) fn refusal(body: &[u8], shown: &str) -> Refusal {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |member: &str| body.get(member).and_then(Value::as_str);
    let word = text("error").unwrap_or_default();
    let description = text("error_description").or_else(|| text("message"));
    let description = description.unwrap_or(word);
    let number = body.pointer("/error_codes/0").and_then(Value::as_u64);
    Refusal {
        number: number
            .and_then(|number| u32::try_from(number).ok())
            .or_else(|| number_in(description)),
        description: cleaned(description, shown),
    }
}

/// `AADSTS70021: ...`, as the first word or within.
fn number_in(description: &str) -> Option<u32> {
    let (_, rest) = description.split_once("AADSTS")?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

/// One line, without the ids that Entra appends. What it repeats of the secret, or of any JWT, is left out.
pub(crate) fn cleaned(description: &str, shown: &str) -> String {
    let (said, _) = description
        .split_once("Trace ID:")
        .unwrap_or((description, ""));
    let said = match shown {
        "" => said.to_owned(),
        secret => said.replace(secret, "(the secret)"),
    };
    let words = said.split(' ').map(|word| match word.find("eyJ") {
        Some(at) if word.len() - at > SHORTEST_JWT => "(a token)",
        Some(_) | None => word,
    });
    let said = words.collect::<Vec<_>>().join(" ");
    let line = said.trim().chars().take(DESCRIPTION);
    line.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
