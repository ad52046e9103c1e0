//! The table of APIs: one row per operation, dialect, method and shapes of the path.

use http::Method;
use proxy_core::names::Operation;

use crate::api::{Answer, Api, Billing, Call, Form, Upstream, UsageRequest};
use crate::body::{BoundName, Member};
use crate::end_user::UserMember;
use crate::error::Dialect;
use crate::prompt::Prompt;
use crate::{chat, completions, messages, speech, usage, wordless};

/// The paths of an operation that names no model there: dated and undated, the stock `/v1`, and both of them
/// in a project.
macro_rules! paths {
    ($end:literal) => {
        &[
            concat!("/openai/", $end),
            concat!("/openai/v1/", $end),
            concat!("/v1/", $end),
            concat!("/api/projects/{project}/openai/", $end),
            concat!("/api/projects/{project}/openai/v1/", $end),
        ]
    };
}

mod batches;
mod containers;
mod files;
mod media;
mod response;
#[cfg(test)]
mod tests;
mod vector_stores;

pub use batches::{BATCH, CONTENT};
pub use response::RETRIEVED;

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
        answer: Answer::Backend(media::IMAGES),
    },
    media::EDIT,
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
    media::TRANSCRIBE,
    media::TRANSLATE,
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
    response::CREATE,
    response::COMPACT,
    response::INPUT_TOKENS,
    // What a backend keeps of responses.
    response::GET,
    response::DELETE,
    response::CANCEL,
    response::INPUT_ITEMS,
    response::CONVERSE,
    response::CONVERSATION,
    response::UPDATE,
    response::DELETE_CONVERSATION,
    response::ITEMS,
    response::ADD_ITEMS,
    response::ITEM,
    response::DELETE_ITEM,
    // Files, whole and in parts.
    files::CREATE,
    files::LIST,
    files::GET,
    files::DELETE,
    files::CONTENT,
    files::UPLOAD,
    files::PART,
    files::COMPLETE,
    files::CANCEL,
    // Files that are searched.
    vector_stores::CREATE,
    vector_stores::LIST,
    vector_stores::GET,
    vector_stores::UPDATE,
    vector_stores::DELETE,
    vector_stores::SEARCH,
    vector_stores::ADD_FILE,
    vector_stores::FILES,
    vector_stores::FILE,
    vector_stores::UPDATE_FILE,
    vector_stores::DELETE_FILE,
    vector_stores::CONTENT,
    vector_stores::ADD_BATCH,
    vector_stores::BATCH,
    vector_stores::CANCEL_BATCH,
    vector_stores::BATCH_FILES,
    // Where code runs.
    containers::CREATE,
    containers::LIST,
    containers::GET,
    containers::DELETE,
    containers::ADD_FILE,
    containers::FILES,
    containers::FILE,
    containers::DELETE_FILE,
    containers::CONTENT,
    // Files of requests.
    batches::CREATE,
    batches::LIST,
    batches::GET,
    batches::CANCEL,
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
            users: &[],
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
    // Agents of Foundry ask for them where a gateway serves their models ("Bring your own model").
    Api {
        operation: Operation::Models,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/deployments",
            "/openai/v1/deployments",
            "/v1/deployments",
        ],
        answer: Answer::Deployments,
    },
    Api {
        operation: Operation::Models,
        dialect: Dialect::OpenAi,
        method: Method::GET,
        paths: &[
            "/openai/deployments/{model}",
            "/openai/v1/deployments/{model}",
            "/v1/deployments/{model}",
        ],
        answer: Answer::Deployment,
    },
];

const CHAT: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("messages", Member::Messages),
        ("stream", Member::Stream),
        ("stream_options", Member::StreamOptions),
        ("max_tokens", Member::OutputBound(BoundName::Tokens)),
        (
            "max_completion_tokens",
            Member::OutputBound(BoundName::CompletionTokens),
        ),
        ("n", Member::Choices),
        ("data_sources", Member::DataSources),
        ("user", Member::User(UserMember::User)),
        (
            "safety_identifier",
            Member::User(UserMember::SafetyIdentifier),
        ),
        ("prompt_cache_key", Member::CacheKey),
    ],
    default_model: None,
    upstream: Upstream::OpenAi("chat/completions"),
    output_bounds: &[BoundName::Tokens, BoundName::CompletionTokens],
    has_output: true,
    billing: Billing::Metered,
    users: &[UserMember::User, UserMember::SafetyIdentifier],
    usage_request: STREAM_OPTIONS,
    events: &chat::GRAMMAR,
    read_usage: usage::generation,
    prompt: Some(Prompt::Chat),
    files: None,
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
        ("user", Member::User(UserMember::User)),
    ],
    default_model: None,
    upstream: Upstream::OpenAi("completions"),
    output_bounds: &[BoundName::Tokens],
    has_output: true,
    billing: Billing::Metered,
    users: &[UserMember::User],
    usage_request: STREAM_OPTIONS,
    events: &completions::GRAMMAR,
    read_usage: usage::generation,
    prompt: Some(Prompt::Completions),
    files: None,
    state: None,
};

const EMBEDDINGS: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("input", Member::Inputs),
        ("user", Member::User(UserMember::User)),
    ],
    default_model: None,
    upstream: Upstream::OpenAi("embeddings"),
    output_bounds: &[],
    has_output: false,
    billing: Billing::Metered,
    users: &[UserMember::User],
    usage_request: UsageRequest::None,
    events: &wordless::GRAMMAR,
    read_usage: usage::without_output,
    prompt: Some(Prompt::Embeddings),
    files: None,
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
    users: &[],
    usage_request: UsageRequest::None,
    events: &speech::GRAMMAR,
    read_usage: speech::usage,
    prompt: None,
    files: None,
    state: None,
};

/// Nothing is billed for a judgement (`OpenAI`, "Moderation"), which a model makes all the same. A request need not name the model.
const MODERATIONS: Call = Call {
    form: Form::Json,
    members: &[("model", Member::Model)],
    default_model: Some("omni-moderation-latest"),
    upstream: Upstream::OpenAi("moderations"),
    output_bounds: &[],
    has_output: false,
    billing: Billing::Request,
    users: &[],
    usage_request: UsageRequest::None,
    events: &wordless::GRAMMAR,
    read_usage: usage::without_output,
    prompt: None,
    files: None,
    state: None,
};

const MESSAGES: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("messages", Member::Messages),
        ("system", Member::Instructions),
        ("stream", Member::Stream),
        ("max_tokens", Member::OutputBound(BoundName::Tokens)),
        ("tools", Member::Tools),
        ("metadata", Member::User(UserMember::Metadata)),
    ],
    default_model: None,
    upstream: Upstream::Anthropic("messages"),
    output_bounds: &[BoundName::Tokens],
    has_output: true,
    billing: Billing::Metered,
    users: &[UserMember::Metadata],
    usage_request: UsageRequest::None,
    events: &messages::GRAMMAR,
    read_usage: usage::message,
    // Claude's vocabulary is not public.
    prompt: None,
    files: None,
    state: None,
};

const STREAM_OPTIONS: UsageRequest = UsageRequest::StreamOptions {
    since: "2024-09-01",
};
