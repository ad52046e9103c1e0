//! The table of APIs: one row per operation, dialect, method and shapes of the path.

use http::Method;
use proxy_core::names::Operation;

use crate::api::{Answer, Api, Billing, Call, Form, State, Upstream, UsageRequest};
use crate::body::{BoundName, Kept, Member};
use crate::error::Dialect;
use crate::prompt::Prompt;
use crate::{chat, completions, messages, responses, speech, usage, wordless};

#[cfg(test)]
mod tests;

/// Every operation that the gateway serves.
pub static ROWS: &[Api] = &[
    // By deployment and date, by `/openai/v1`, and by the stock `/v1`. Azure's own clients put
    // `deployments/{model}` behind a v1 base URL, too.
    Api {
        operation: Operation::ChatCompletions,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/deployments/{model}/chat/completions",
            "/openai/v1/chat/completions",
            "/openai/v1/deployments/{model}/chat/completions",
            "/v1/chat/completions",
            "/v1/deployments/{model}/chat/completions",
        ],
        answer: Answer::Backend(CHAT),
    },
    // The API before chat.
    Api {
        operation: Operation::Completions,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/deployments/{model}/completions",
            "/openai/v1/completions",
            "/openai/v1/deployments/{model}/completions",
            "/v1/completions",
            "/v1/deployments/{model}/completions",
        ],
        answer: Answer::Backend(COMPLETIONS),
    },
    Api {
        operation: Operation::Embeddings,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/deployments/{model}/embeddings",
            "/openai/v1/embeddings",
            "/openai/v1/deployments/{model}/embeddings",
            "/v1/embeddings",
            "/v1/deployments/{model}/embeddings",
        ],
        answer: Answer::Backend(EMBEDDINGS),
    },
    Api {
        operation: Operation::Images,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/deployments/{model}/images/generations",
            "/openai/v1/images/generations",
            "/openai/v1/deployments/{model}/images/generations",
            "/v1/images/generations",
            "/v1/deployments/{model}/images/generations",
        ],
        answer: Answer::Backend(IMAGES),
    },
    Api {
        operation: Operation::Audio,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/deployments/{model}/audio/speech",
            "/openai/v1/audio/speech",
            "/openai/v1/deployments/{model}/audio/speech",
            "/v1/audio/speech",
            "/v1/deployments/{model}/audio/speech",
        ],
        answer: Answer::Backend(SPEECH),
    },
    // Azure's own clients put no deployment in its path.
    Api {
        operation: Operation::Moderations,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/deployments/{model}/moderations",
            "/openai/moderations",
            "/openai/v1/moderations",
            "/openai/v1/deployments/{model}/moderations",
            "/v1/moderations",
            "/v1/deployments/{model}/moderations",
        ],
        answer: Answer::Backend(MODERATIONS),
    },
    // Responses: the model is in the body everywhere.
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/responses",
            "/openai/v1/responses",
            "/v1/responses",
            "/api/projects/{project}/openai/responses",
            "/api/projects/{project}/openai/v1/responses",
        ],
        answer: Answer::Backend(RESPONSES),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/v1/responses/compact",
            "/v1/responses/compact",
            "/api/projects/{project}/openai/responses/compact",
            "/api/projects/{project}/openai/v1/responses/compact",
        ],
        answer: Answer::Backend(Call {
            upstream: Upstream::Undated("responses/compact"),
            ..RESPONSES
        }),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/v1/responses/input_tokens",
            "/v1/responses/input_tokens",
            "/api/projects/{project}/openai/responses/input_tokens",
            "/api/projects/{project}/openai/v1/responses/input_tokens",
        ],
        answer: Answer::Backend(Call {
            upstream: Upstream::Undated("responses/input_tokens"),
            state: Some(State {
                kept: Kept::Response,
                without_model: false,
                answers: false,
            }),
            has_output: false,
            billing: Billing::Free,
            ..RESPONSES
        }),
    },
    // What a backend keeps of the Responses API: nothing in the request names a model.
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/responses/{id}",
            "/openai/v1/responses/{id}",
            "/v1/responses/{id}",
            "/api/projects/{project}/openai/responses/{id}",
            "/api/projects/{project}/openai/v1/responses/{id}",
        ],
        answer: Answer::Backend(kept(
            Upstream::Resource("responses/{id}"),
            Kept::Response,
            true,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::DELETE,
        paths: &[
            "/openai/responses/{id}",
            "/openai/v1/responses/{id}",
            "/v1/responses/{id}",
            "/api/projects/{project}/openai/responses/{id}",
            "/api/projects/{project}/openai/v1/responses/{id}",
        ],
        answer: Answer::Backend(kept(
            Upstream::Resource("responses/{id}"),
            Kept::Response,
            true,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/responses/{id}/cancel",
            "/openai/v1/responses/{id}/cancel",
            "/v1/responses/{id}/cancel",
            "/api/projects/{project}/openai/responses/{id}/cancel",
            "/api/projects/{project}/openai/v1/responses/{id}/cancel",
        ],
        answer: Answer::Backend(kept(
            Upstream::Resource("responses/{id}/cancel"),
            Kept::Response,
            true,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/responses/{id}/input_items",
            "/openai/v1/responses/{id}/input_items",
            "/v1/responses/{id}/input_items",
            "/api/projects/{project}/openai/responses/{id}/input_items",
            "/api/projects/{project}/openai/v1/responses/{id}/input_items",
        ],
        answer: Answer::Backend(kept(
            Upstream::Resource("responses/{id}/input_items"),
            Kept::Response,
            false,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/v1/conversations",
            "/v1/conversations",
            "/api/projects/{project}/openai/conversations",
            "/api/projects/{project}/openai/v1/conversations",
        ],
        answer: Answer::Backend(Call {
            form: Form::Json,
            ..kept(Upstream::Undated("conversations"), Kept::Conversation, true)
        }),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/v1/conversations/{id}",
            "/v1/conversations/{id}",
            "/api/projects/{project}/openai/conversations/{id}",
            "/api/projects/{project}/openai/v1/conversations/{id}",
        ],
        answer: Answer::Backend(kept(
            Upstream::Undated("conversations/{id}"),
            Kept::Conversation,
            true,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/v1/conversations/{id}",
            "/v1/conversations/{id}",
            "/api/projects/{project}/openai/conversations/{id}",
            "/api/projects/{project}/openai/v1/conversations/{id}",
        ],
        answer: Answer::Backend(Call {
            form: Form::Json,
            ..kept(
                Upstream::Undated("conversations/{id}"),
                Kept::Conversation,
                true,
            )
        }),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::DELETE,
        paths: &[
            "/openai/v1/conversations/{id}",
            "/v1/conversations/{id}",
            "/api/projects/{project}/openai/conversations/{id}",
            "/api/projects/{project}/openai/v1/conversations/{id}",
        ],
        answer: Answer::Backend(kept(
            Upstream::Undated("conversations/{id}"),
            Kept::Conversation,
            true,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/v1/conversations/{id}/items",
            "/v1/conversations/{id}/items",
            "/api/projects/{project}/openai/conversations/{id}/items",
            "/api/projects/{project}/openai/v1/conversations/{id}/items",
        ],
        answer: Answer::Backend(kept(
            Upstream::Undated("conversations/{id}/items"),
            Kept::Conversation,
            false,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &[
            "/openai/v1/conversations/{id}/items",
            "/v1/conversations/{id}/items",
            "/api/projects/{project}/openai/conversations/{id}/items",
            "/api/projects/{project}/openai/v1/conversations/{id}/items",
        ],
        answer: Answer::Backend(Call {
            form: Form::Json,
            ..kept(
                Upstream::Undated("conversations/{id}/items"),
                Kept::Conversation,
                false,
            )
        }),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/v1/conversations/{id}/items/{item}",
            "/v1/conversations/{id}/items/{item}",
            "/api/projects/{project}/openai/conversations/{id}/items/{item}",
            "/api/projects/{project}/openai/v1/conversations/{id}/items/{item}",
        ],
        answer: Answer::Backend(kept(
            Upstream::Undated("conversations/{id}/items/{item}"),
            Kept::Conversation,
            false,
        )),
    },
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method: Method::DELETE,
        paths: &[
            "/openai/v1/conversations/{id}/items/{item}",
            "/v1/conversations/{id}/items/{item}",
            "/api/projects/{project}/openai/conversations/{id}/items/{item}",
            "/api/projects/{project}/openai/v1/conversations/{id}/items/{item}",
        ],
        answer: Answer::Backend(kept(
            Upstream::Undated("conversations/{id}/items/{item}"),
            Kept::Conversation,
            true,
        )),
    },
    // Claude: as Foundry has it, and as Anthropic's own clients have it by default.
    Api {
        operation: Operation::Messages,
        dialect: Dialect::Anthropic,
        method: Method::POST,
        paths: &["/anthropic/v1/messages", "/v1/messages"],
        answer: Answer::Backend(MESSAGES),
    },
    Api {
        operation: Operation::Messages,
        dialect: Dialect::Anthropic,
        method: Method::POST,
        paths: &[
            "/anthropic/v1/messages/count_tokens",
            "/v1/messages/count_tokens",
        ],
        answer: Answer::Backend(Call {
            upstream: Upstream::Anthropic("messages/count_tokens"),
            has_output: false,
            billing: Billing::Free,
            ..MESSAGES
        }),
    },
    Api {
        operation: Operation::Models,
        dialect: Dialect::Anthropic,
        method: Method::GET,
        paths: &["/anthropic/v1/models"],
        answer: Answer::Models,
    },
    Api {
        operation: Operation::Models,
        dialect: Dialect::Anthropic,
        method: Method::GET,
        paths: &["/anthropic/v1/models/{model}"],
        answer: Answer::Model,
    },
    // Of both dialects: Anthropic's clients say so by their headers.
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

/// How a response is asked for by its id.
pub static RETRIEVED: Call = kept(Upstream::Resource("responses/{id}"), Kept::Response, true);

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
    default_model: None,
    upstream: Upstream::OpenAi("chat/completions"),
    output_bounds: &[BoundName::Tokens, BoundName::CompletionTokens],
    has_output: true,
    billing: Billing::Metered,
    usage_request: STREAM_OPTIONS,
    events: &chat::GRAMMAR,
    read_usage: usage::generation,
    prompt: Some(Prompt::Chat),
    state: None,
};

const COMPLETIONS: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("stream", Member::Stream),
        ("stream_options", Member::StreamOptions),
        ("max_tokens", Member::OutputBound(BoundName::Tokens)),
        ("n", Member::Choices),
        ("best_of", Member::Choices),
        ("prompt", Member::Prompts),
    ],
    default_model: None,
    upstream: Upstream::OpenAi("completions"),
    output_bounds: &[BoundName::Tokens],
    has_output: true,
    billing: Billing::Metered,
    usage_request: STREAM_OPTIONS,
    events: &completions::GRAMMAR,
    read_usage: usage::generation,
    prompt: Some(Prompt::Completions),
    state: None,
};

const EMBEDDINGS: Call = Call {
    form: Form::Json,
    members: &[("model", Member::Model), ("input", Member::Inputs)],
    default_model: None,
    upstream: Upstream::OpenAi("embeddings"),
    output_bounds: &[],
    has_output: false,
    billing: Billing::Metered,
    usage_request: UsageRequest::None,
    events: &wordless::GRAMMAR,
    read_usage: usage::without_output,
    prompt: Some(Prompt::Embeddings),
    state: None,
};

const IMAGES: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("stream", Member::Stream),
        ("n", Member::Choices),
        ("quality", Member::Quality),
    ],
    default_model: None,
    upstream: Upstream::OpenAi("images/generations"),
    output_bounds: &[],
    has_output: true,
    billing: Billing::Metered,
    usage_request: UsageRequest::None,
    events: &wordless::GRAMMAR,
    read_usage: usage::generation,
    prompt: None,
    state: None,
};

/// The answer is sound, and nothing in it says what it costs, unless it comes as events.
const SPEECH: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("stream_format", Member::StreamFormat),
    ],
    default_model: None,
    upstream: Upstream::OpenAi("audio/speech"),
    output_bounds: &[],
    has_output: true,
    billing: Billing::MeteredInEvents,
    usage_request: UsageRequest::None,
    events: &speech::GRAMMAR,
    read_usage: speech::usage,
    prompt: None,
    state: None,
};

/// Nothing is billed for a judgement (`OpenAI`, "Moderation"). A request need not name the model.
const MODERATIONS: Call = Call {
    form: Form::Json,
    members: &[("model", Member::Model)],
    default_model: Some("omni-moderation-latest"),
    upstream: Upstream::OpenAi("moderations"),
    output_bounds: &[],
    has_output: false,
    billing: Billing::Free,
    usage_request: UsageRequest::None,
    events: &wordless::GRAMMAR,
    read_usage: usage::without_output,
    prompt: None,
    state: None,
};

const RESPONSES: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("stream", Member::Stream),
        (
            "max_output_tokens",
            Member::OutputBound(BoundName::OutputTokens),
        ),
        ("background", Member::Background),
        ("previous_response_id", Member::PreviousResponse),
        ("conversation", Member::Conversation),
    ],
    default_model: None,
    upstream: Upstream::Resource("responses"),
    output_bounds: &[BoundName::OutputTokens],
    has_output: true,
    billing: Billing::Metered,
    usage_request: UsageRequest::None,
    events: &responses::GRAMMAR,
    read_usage: usage::response,
    prompt: Some(Prompt::Responses),
    state: Some(State {
        kept: Kept::Response,
        without_model: false,
        answers: true,
    }),
};

/// A call about what a backend keeps. Only making it is billed.
const fn kept(upstream: Upstream, kept: Kept, answers: bool) -> Call {
    Call {
        form: Form::Any,
        members: &[],
        upstream,
        output_bounds: &[],
        has_output: false,
        billing: Billing::Free,
        prompt: None,
        state: Some(State {
            kept,
            without_model: true,
            answers,
        }),
        ..RESPONSES
    }
}

const MESSAGES: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("stream", Member::Stream),
        ("max_tokens", Member::OutputBound(BoundName::Tokens)),
    ],
    default_model: None,
    upstream: Upstream::Anthropic("messages"),
    output_bounds: &[BoundName::Tokens],
    has_output: true,
    billing: Billing::Metered,
    usage_request: UsageRequest::None,
    events: &messages::GRAMMAR,
    read_usage: usage::message,
    // Claude's vocabulary is not public.
    prompt: None,
    state: None,
};

const STREAM_OPTIONS: UsageRequest = UsageRequest::StreamOptions {
    since: "2024-09-01",
};
