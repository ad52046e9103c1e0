//! The table of APIs: one row per operation, dialect, method and shapes of the path.

use http::Method;
use proxy_core::names::Operation;

use crate::api::{Answer, Api, Call, Form, Upstream, UsageRequest};
use crate::body::{BoundName, Member};
use crate::error::Dialect;
use crate::prompt::Prompt;
use crate::{chat, usage};

/// Every operation that the gateway serves.
pub static ROWS: &[Api] = &[
    // Chat completions: by deployment and date, by `/openai/v1`, and by the stock `/v1`. Azure's own
    // clients put `deployments/{model}` behind a v1 base URL, too.
    Api {
        operation: Operation::ChatCompletions,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &["/openai/deployments/{model}/chat/completions"],
        answer: Answer::Backend(CHAT),
    },
    Api {
        operation: Operation::ChatCompletions,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/v1/chat/completions",
            "/openai/v1/deployments/{model}/chat/completions",
        ],
        answer: Answer::Backend(CHAT),
    },
    Api {
        operation: Operation::ChatCompletions,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/v1/chat/completions",
            "/v1/deployments/{model}/chat/completions",
        ],
        answer: Answer::Backend(CHAT),
    },
    Api {
        operation: Operation::Models,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &["/openai/v1/models", "/v1/models", "/openai/models"],
        answer: Answer::Models,
    },
    Api {
        operation: Operation::Models,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/v1/models/{model}",
            "/v1/models/{model}",
            "/openai/models/{model}",
        ],
        answer: Answer::Model,
    },
];

const CHAT: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("stream", Member::Stream),
        ("stream_options", Member::StreamOptions),
        ("max_tokens", Member::OutputBound(BoundName::Tokens)),
        (
            "max_completion_tokens",
            Member::OutputBound(BoundName::CompletionTokens),
        ),
        (
            "max_output_tokens",
            Member::OutputBound(BoundName::OutputTokens),
        ),
        ("n", Member::Choices),
        ("data_sources", Member::DataSources),
    ],
    upstream: Upstream::OpenAi("chat/completions"),
    output_bounds: &[BoundName::Tokens, BoundName::CompletionTokens],
    usage_request: UsageRequest::StreamOptions {
        since: "2024-09-01",
    },
    events: &chat::GRAMMAR,
    read_usage: usage::generation,
    prompt: Some(Prompt::Chat),
};
