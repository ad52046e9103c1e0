//! How Entra refuses: a word of OAuth, and a number in front of its description.

use http::StatusCode;
use serde_json::{Value, json};

use crate::entra::InvalidToken;

/// A refused request for a token.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Refusal {
    /// A refusal of the token endpoint. Entra's bodies end with the ids of the request.
    pub(super) fn entra(error: &str, code: u32, message: &str) -> Self {
        let status = match error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        let (trace, correlation): (u64, u64) = (rand::random(), rand::random());
        let time = "2026-11-27 05:00:00Z";
        let description = format!(
            "AADSTS{code}: {message} Trace ID: {trace:016x} Correlation ID: {correlation:016x} \
             Timestamp: {time}"
        );
        Self {
            status,
            body: json!({
                "error": error, "error_description": description, "error_codes": [code],
                "timestamp": time, "trace_id": format!("{trace:016x}"),
                "correlation_id": format!("{correlation:016x}"),
                "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
            }),
        }
    }

    /// A refusal of the endpoint on the machine, which has no numbers of its own.
    pub(super) fn machine(error: &str, description: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: json!({"error": error, "error_description": description}),
        }
    }

    /// A refusal of App Service's endpoint.
    pub(super) fn app_service(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            body: json!({"statusCode": status.as_u16(), "message": message}),
        }
    }
}

impl From<InvalidToken> for Refusal {
    fn from(error: InvalidToken) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::entra("server_error", 90_033, &error.to_string())
        }
    }
}
