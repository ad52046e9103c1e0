//! Errors of the gateway itself, in the shape of the dialect that the client speaks; and those that a
//! backend reports in an answer that should be one.

use std::sync::LazyLock;

use proxy_core::names::Code;
use serde::Serialize;

use crate::json::member;
use crate::member::Name;

#[cfg(test)]
mod tests;

/// Whose shape an API's errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message", "code"}, "request_id"}`.
    Anthropic,
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    /// Seconds since 1970: Codex shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<u64>,
}

/// The event of the Responses API. Its published schema has the error's members beside the type; the service
/// sends them nested, and the SDKs raise on that alone.
#[derive(Serialize)]
struct NumberedError<'a> {
    r#type: &'static str,
    sequence_number: u64,
    error: OpenAiError<'a>,
}

impl<'a> OpenAiError<'a> {
    const fn new(code: Code, message: &'a str, param: Option<&'a str>) -> Self {
        Self {
            message,
            r#type: openai_type(code),
            param,
            code: code.as_str(),
            resets_at: None,
        }
    }
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    message: &'a str,
    /// Not of Anthropic: the gateway's own word, the same in every dialect.
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
}

impl Dialect {
    /// Its name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
        }
    }

    /// The JSON of an error. `param` is what it is about: a field of the request, or the limit that
    /// refused it, which fits again at `resets_at`. Anthropic's body names the request, too.
    #[must_use]
    pub fn error(
        self,
        code: Code,
        message: &str,
        param: Option<&str>,
        resets_at: Option<u64>,
        request_id: Option<&str>,
    ) -> Vec<u8> {
        // Strings and constants only: cannot fail.
        let written = match self {
            Self::OpenAi => serde_json::to_vec(&OpenAiBody {
                error: OpenAiError {
                    resets_at,
                    ..OpenAiError::new(code, message, param)
                },
            }),
            Self::Anthropic => serde_json::to_vec(&AnthropicBody {
                r#type: "error",
                error: AnthropicError {
                    r#type: anthropic_type(code),
                    message,
                    code: code.as_str(),
                    param,
                },
                request_id,
            }),
        };
        written.unwrap_or_default()
    }
}

/// How the streams of an API say that they have failed. The SDKs raise on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorEvent {
    /// `data: {"error": ...}`, without a name.
    Unnamed,
    /// `event: error`, with the error in Anthropic's shape.
    Typed,
    /// `event: error`, with the error and the event's number in `OpenAI`'s shape.
    Numbered,
}

impl ErrorEvent {
    /// The whole event; `number` is its place in a stream of numbered events.
    pub(crate) fn write(
        self,
        code: Code,
        message: &str,
        number: u64,
        request_id: Option<&str>,
    ) -> Vec<u8> {
        let (begin, data): (&[u8], _) = match self {
            Self::Unnamed => {
                let data = Dialect::OpenAi.error(code, message, None, None, None);
                (b"data: ", data)
            }
            Self::Typed => {
                let data = Dialect::Anthropic.error(code, message, None, None, request_id);
                (b"event: error\ndata: ", data)
            }
            Self::Numbered => {
                let data = serde_json::to_vec(&NumberedError {
                    r#type: "error",
                    sequence_number: number,
                    error: OpenAiError::new(code, message, None),
                });
                (b"event: error\ndata: ", data.unwrap_or_default())
            }
        };
        [begin, &data, b"\n\n"].concat()
    }
}

static ERROR: LazyLock<Name> = LazyLock::new(|| Name::new(b"\"error\""));

/// Whether a JSON answer is nothing but an error, whatever its status says.
#[must_use]
pub fn is_error(answer: &[u8]) -> bool {
    let is_none = |list: &[u8]| list == b"null" || list.starts_with(b"[]");
    has_error(answer) && member(answer, "choices").is_none_or(is_none)
}

/// Whether an error says that the content filter refused the prompt, which was read and is billed.
#[must_use]
pub fn is_filtered(answer: &[u8]) -> bool {
    const CODES: [&str; 2] = ["content_filter", "ResponsibleAIPolicyViolation"];
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(answer) else {
        return false;
    };
    let places = ["/error/code", "/error/innererror/code"];
    places.into_iter().any(|place| {
        let code = answer.pointer(place).and_then(serde_json::Value::as_str);
        code.is_some_and(|code| CODES.contains(&code))
    })
}

/// Whether there is an error at the top level of an answer or event. Many successful answers have an
/// empty one.
pub(crate) fn has_error(data: &[u8]) -> bool {
    let Some(value) = ERROR.last_in(data) else {
        return false;
    };
    let rest = data.get(value.at..).unwrap_or_default();
    let empty: [&[u8]; 6] = [b"null", b"false", b"\"\"", b"{}", b"[]", b"0"];
    !rest.is_empty() && !empty.iter().any(|one| rest.starts_with(one))
}

/// `OpenAI`'s `type` for a code.
const fn openai_type(code: Code) -> &'static str {
    match code.status() {
        // OpenAI's own word for a spent budget. By it Codex shows when there is more; of other 429 it shows nothing
        // but the number.
        _ if code.is_limit() => "usage_limit_reached",
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Anthropic's `type` for a code (its documented list of errors).
const fn anthropic_type(code: Code) -> &'static str {
    match code.status() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}
