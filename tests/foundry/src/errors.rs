//! Foundry's error bodies: at least four shapes, each where Foundry uses it.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::record::Usage;

/// A refused request: what is sent instead of an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// Headers beside those that every response carries; boxed, since a map is large in a `Result`.
    pub(crate) headers: Box<HeaderMap>,
    /// Azure itself refuses, in its own shape, whichever API was asked.
    is_front_door: bool,
    /// What a model read before.
    pub(crate) billed: Option<Box<Usage>>,
}

impl Failure {
    fn new(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            body,
            headers: Box::default(),
            is_front_door: false,
            billed: None,
        }
    }

    fn front_door(self) -> Self {
        Self {
            is_front_door: true,
            ..self
        }
    }

    /// The body, in Anthropic's shape unless the API was never reached.
    pub(crate) fn anthropic_body(&self, request_id: &str) -> Value {
        if self.is_front_door {
            return self.body.clone();
        }
        let message = self.body.pointer("/error/message").and_then(Value::as_str);
        let kind = match self.status.as_u16() {
            400 | 422 => "invalid_request_error",
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        };
        anthropic(kind, message.unwrap_or("Error"), Some(request_id))
    }

    /// The plain shape `{"error":{"code","message"}}` of the resource's front door.
    pub(crate) fn coded(status: StatusCode, code: &str, message: &str) -> Self {
        Self::new(status, json!({"error": {"code": code, "message": message}})).front_door()
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

    /// A prompt that the content filter stops. It has been read, and so it is charged.
    pub(crate) fn content_filter(read: Usage) -> Self {
        let safe = json!({"filtered": false, "severity": "safe"});
        let error = json!({
            "message": "The response was filtered due to the prompt triggering Azure OpenAI's content \
                        management policy. Please modify your prompt and retry. To learn more about our \
                        content filtering policies please read our documentation: \
                        https://go.microsoft.com/fwlink/?linkid=2198766",
            "type": null, "param": "prompt", "code": "content_filter", "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {
                    "hate": {"filtered": true, "severity": "high"},
                    "jailbreak": {"detected": false, "filtered": false},
                    "self_harm": safe, "sexual": safe, "violence": safe,
                },
            },
        });
        Self {
            billed: Some(Box::new(read)),
            ..Self::new(StatusCode::BAD_REQUEST, json!({ "error": error }))
        }
    }

    /// A missing or wrong key: no `error` wrapper.
    pub(crate) fn unauthorized() -> Self {
        let message = "Unauthorized. Access token is missing, invalid, audience is incorrect \
                       (https://cognitiveservices.azure.com), or has expired.";
        Self::new(
            StatusCode::UNAUTHORIZED,
            json!({"statusCode": 401, "message": message}),
        )
        .front_door()
    }

    /// An identity without a role on the resource: 401, not 403.
    pub(crate) fn permission_denied(principal: &str) -> Self {
        let message = format!(
            "The principal `{principal}` lacks the required data action \
             `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to \
             perform `POST /openai/deployments/{{deployment-id}}/chat/completions` operation."
        );
        Self::coded(StatusCode::UNAUTHORIZED, "PermissionDenied", &message)
    }

    /// The same, where Anthropic's API is behind the door.
    pub(crate) fn access_denied() -> Self {
        let message = "Access denied due to invalid subscription key or wrong API endpoint. Make sure \
                       to provide a valid key for an active subscription and use a correct regional \
                       API endpoint for your resource.";
        Self::coded(StatusCode::UNAUTHORIZED, "401", message)
    }

    /// An API that a model of its family does not have.
    pub(crate) fn unsupported_operation(operation: &str, model: &str) -> Self {
        let message = format!(
            "The {operation} operation does not work with the specified model, {model}. Please choose \
             different model and try again. You can learn more about which models can be used with \
             each operation here: https://go.microsoft.com/fwlink/?linkid=2197993."
        );
        Self::coded(StatusCode::BAD_REQUEST, "OperationNotSupported", &message)
    }

    /// A field that only models of OpenAI know.
    pub(crate) fn unrecognized_argument(name: &str) -> Self {
        let message = format!("Unrecognized request argument supplied: {name}");
        Self::invalid(&message, None, Some("unrecognized_request_argument"))
    }

    /// The same, as Mistral's models say it.
    pub(crate) fn extra_input(name: &str) -> Self {
        let detail = json!([{
            "type": "extra_forbidden", "loc": ["body", name],
            "msg": "Extra inputs are not permitted",
        }]);
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "detail": detail }),
        )
    }

    /// The Responses API, asked for a model that does not have it.
    pub(crate) fn unsupported_model() -> Self {
        Self::coded(StatusCode::BAD_REQUEST, "BadRequest", "Model not supported")
    }

    /// One of OpenAI's APIs, asked for Claude.
    pub(crate) fn unsupported_api() -> Self {
        let message = "The requested API is not supported for this model.";
        Self::coded(StatusCode::BAD_REQUEST, "api_not_supported", message)
    }

    /// A wrong path, method or api-version. The code is a string.
    pub(crate) fn no_resource() -> Self {
        Self::coded(StatusCode::NOT_FOUND, "404", "Resource not found")
    }

    /// What a version from before the Responses API says (for example Aider-AI/aider#4029).
    pub(crate) fn no_responses() -> Self {
        let message = "Azure OpenAI Responses API is enabled only for api-version 2025-03-01-preview and later";
        Self::coded(StatusCode::BAD_REQUEST, "BadRequest", message)
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
            is_front_door: false,
            billed: None,
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
                let code = status.as_str();
                Self::new(status, json!({"error": {"code": code, "message": reason}}))
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

/// Anthropic's shape.
pub(crate) fn anthropic(kind: &str, message: &str, request_id: Option<&str>) -> Value {
    let mut body = json!({"type": "error", "error": {"type": kind, "message": message}});
    if let (Some(id), Some(fields)) = (request_id, body.as_object_mut()) {
        fields.insert("request_id".to_owned(), json!(id));
    }
    body
}
