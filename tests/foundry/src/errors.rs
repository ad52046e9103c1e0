//! Foundry's error bodies: at least three shapes, each where Foundry uses it.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// A refused request: what is sent instead of an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// Headers beside those that every response carries; boxed, since a map is large in a `Result`.
    pub(crate) headers: Box<HeaderMap>,
}

impl Failure {
    fn new(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            body,
            headers: Box::default(),
        }
    }

    /// The plain shape `{"error":{"code","message"}}` of the resource's front door.
    pub(crate) fn coded(status: StatusCode, code: &str, message: &str) -> Self {
        Self::new(status, json!({"error": {"code": code, "message": message}}))
    }

    /// OpenAI's shape, for what the model's own API finds wrong with a request.
    pub(crate) fn invalid(message: &str, param: Option<&str>, code: Option<&str>) -> Self {
        Self::model_api(StatusCode::BAD_REQUEST, message, param, code)
    }

    /// An id that the resource does not know (Responses API reference, errors).
    pub(crate) fn unknown_id(kind: &str, id: &str) -> Self {
        let message = format!("{kind} with id '{id}' not found.");
        Self::model_api(StatusCode::NOT_FOUND, &message, None, None)
    }

    pub(crate) fn model_api(
        status: StatusCode,
        message: &str,
        param: Option<&str>,
        code: Option<&str>,
    ) -> Self {
        let error = json!({
            "message": message, "type": "invalid_request_error", "param": param, "code": code,
        });
        Self::new(status, json!({ "error": error }))
    }

    /// A missing or wrong key: no `error` wrapper.
    pub(crate) fn unauthorized() -> Self {
        let message = "Unauthorized. Access token is missing, invalid, audience is incorrect \
                       (https://cognitiveservices.azure.com), or has expired.";
        Self::new(
            StatusCode::UNAUTHORIZED,
            json!({"statusCode": 401, "message": message}),
        )
    }

    /// A wrong path, method or api-version. The code is a string.
    pub(crate) fn no_resource() -> Self {
        Self::coded(StatusCode::NOT_FOUND, "404", "Resource not found")
    }

    pub(crate) fn no_deployment() -> Self {
        let message = "The API deployment for this resource does not exist. If you created the \
                       deployment within the last 5 minutes, please wait a moment and try again.";
        Self::coded(StatusCode::NOT_FOUND, "DeploymentNotFound", message)
    }

    /// A body without the name of a deployment.
    pub(crate) fn no_model() -> Self {
        Self::invalid("you must provide a model parameter", Some("model"), None)
    }

    pub(crate) fn too_many_headers() -> Self {
        let message = "The request carries more than 10 custom headers.";
        Self::coded(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "431", message)
    }

    pub(crate) fn too_large() -> Self {
        Self::coded(
            StatusCode::PAYLOAD_TOO_LARGE,
            "413",
            "The request body is too large.",
        )
    }

    /// A limit was hit. The code is a string.
    pub(crate) fn throttled(message: &str, headers: HeaderMap) -> Self {
        let body = json!({"error": {"code": "429", "message": message}});
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            body,
            headers: Box::new(headers),
        }
    }

    /// What a scripted status says when its script brings no body.
    pub(crate) fn scripted(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            StatusCode::NOT_FOUND => Self::no_resource(),
            StatusCode::TOO_MANY_REQUESTS => Self::throttled(
                "The system is currently experiencing high demand and cannot process your \
                 request. Please retry after 6 seconds.",
                HeaderMap::new(),
            ),
            status if status.is_server_error() => Self::new(status, server_error()),
            status => {
                let reason = status.canonical_reason().unwrap_or("Error");
                Self::coded(status, status.as_str(), reason)
            }
        }
    }
}

/// The shape of a failing model, as body and as the last event of a broken stream.
pub(crate) fn server_error() -> Value {
    json!({"error": {
        "message": "The server had an error processing your request. Sorry about that!",
        "type": "server_error", "param": null, "code": null,
    }})
}
