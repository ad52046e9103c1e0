//! The Responses API: its operations, and what a backend keeps of it. Nothing in a request for that names a
//! model.

use http::Method;
use proxy_core::names::Operation;

use crate::api::{Answer, Api, Billing, Call, Form, State, Upstream, UsageRequest};
use crate::body::{BoundName, Kept, Member};
use crate::end_user::UserMember;
use crate::error::Dialect;
use crate::prompt::Prompt;
use crate::{responses, usage};

/// How a response is asked for by its id.
pub static RETRIEVED: Call = kept(Upstream::Resource("responses/{id}"), Kept::Response, true);

pub(super) const CREATE: Api = Api {
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
};

pub(super) const COMPACT: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::POST,
    paths: &[
        "/openai/responses/compact",
        "/openai/v1/responses/compact",
        "/v1/responses/compact",
        "/api/projects/{project}/openai/responses/compact",
        "/api/projects/{project}/openai/v1/responses/compact",
    ],
    answer: Answer::Backend(Call {
        upstream: Upstream::Undated("responses/compact"),
        users: &[],
        ..RESPONSES
    }),
};

pub(super) const INPUT_TOKENS: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::POST,
    paths: &[
        "/openai/responses/input_tokens",
        "/openai/v1/responses/input_tokens",
        "/v1/responses/input_tokens",
        "/api/projects/{project}/openai/responses/input_tokens",
        "/api/projects/{project}/openai/v1/responses/input_tokens",
    ],
    answer: Answer::Backend(Call {
        upstream: Upstream::Undated("responses/input_tokens"),
        users: &[],
        state: Some(State {
            kept: Kept::Response,
            without_model: false,
            answers: false,
        }),
        has_output: false,
        billing: Billing::Free,
        ..RESPONSES
    }),
};

pub(super) const GET: Api = Api {
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
};

pub(super) const DELETE: Api = Api {
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
};

pub(super) const CANCEL: Api = Api {
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
};

pub(super) const INPUT_ITEMS: Api = Api {
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
};

pub(super) const CONVERSE: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::POST,
    paths: &[
        "/openai/conversations",
        "/openai/v1/conversations",
        "/v1/conversations",
        "/api/projects/{project}/openai/conversations",
        "/api/projects/{project}/openai/v1/conversations",
    ],
    answer: Answer::Backend(Call {
        form: Form::Json,
        ..kept(Upstream::Undated("conversations"), Kept::Conversation, true)
    }),
};

pub(super) const CONVERSATION: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::GET,
    paths: &[
        "/openai/conversations/{id}",
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
};

pub(super) const UPDATE: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::POST,
    paths: &[
        "/openai/conversations/{id}",
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
};

pub(super) const DELETE_CONVERSATION: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::DELETE,
    paths: &[
        "/openai/conversations/{id}",
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
};

pub(super) const ITEMS: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::GET,
    paths: &[
        "/openai/conversations/{id}/items",
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
};

pub(super) const ADD_ITEMS: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::POST,
    paths: &[
        "/openai/conversations/{id}/items",
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
};

pub(super) const ITEM: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::GET,
    paths: &[
        "/openai/conversations/{id}/items/{item}",
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
};

pub(super) const DELETE_ITEM: Api = Api {
    operation: Operation::Responses,
    dialect: Dialect::OpenAi,
    method: Method::DELETE,
    paths: &[
        "/openai/conversations/{id}/items/{item}",
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
        users: &[],
        prompt: None,
        state: Some(State {
            kept,
            without_model: true,
            answers,
        }),
        ..RESPONSES
    }
}

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
        ("user", Member::User(UserMember::User)),
        (
            "safety_identifier",
            Member::User(UserMember::SafetyIdentifier),
        ),
    ],
    default_model: None,
    upstream: Upstream::Resource("responses"),
    output_bounds: &[BoundName::OutputTokens],
    has_output: true,
    billing: Billing::Metered,
    users: &[UserMember::User, UserMember::SafetyIdentifier],
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
