//! Errors of the gateway itself, in the shape of the dialect that the client speaks.

use proxy_core::names::Code;
use serde::Serialize;

#[cfg(test)]
mod tests;

/// Whose shape an API's errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message", "code"}}`.
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
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
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
    /// The JSON of an error. `param` is what it is about: a field of the request, or the limit that
    /// refused it.
    #[must_use]
    pub fn error(self, code: Code, message: &str, param: Option<&str>) -> Vec<u8> {
        // Strings and constants only: cannot fail.
        let written = match self {
            Self::OpenAi => serde_json::to_vec(&OpenAiBody {
                error: OpenAiError {
                    message,
                    r#type: openai_type(code),
                    param,
                    code: code.as_str(),
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
            }),
        };
        written.unwrap_or_default()
    }

    /// The same as an event within a stream.
    #[must_use]
    pub fn error_event(self, code: Code, message: &str) -> Vec<u8> {
        let mut event = match self {
            Self::OpenAi => b"data: ".to_vec(),
            Self::Anthropic => b"event: error\ndata: ".to_vec(),
        };
        event.extend_from_slice(&self.error(code, message, None));
        event.extend_from_slice(b"\n\n");
        event
    }
}

/// `OpenAI`'s `type` for a code.
const fn openai_type(code: Code) -> &'static str {
    match code.status() {
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
