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

pub(super) const CREATE: Api = row(
    Method::POST,
    &[
        "/openai/responses",
        "/openai/v1/responses",
        "/v1/responses",
        "/api/projects/{project}/openai/responses",
        "/api/projects/{project}/openai/v1/responses",
    ],
    RESPONSES,
);

pub(super) const COMPACT: Api = row(
    Method::POST,
    &[
        "/openai/responses/compact",
        "/openai/v1/responses/compact",
        "/v1/responses/compact",
        "/api/projects/{project}/openai/responses/compact",
        "/api/projects/{project}/openai/v1/responses/compact",
    ],
    Call {
        upstream: Upstream::Undated("responses/compact"),
        users: &[],
        ..RESPONSES
    },
);

pub(super) const INPUT_TOKENS: Api = row(
    Method::POST,
    &[
        "/openai/responses/input_tokens",
        "/openai/v1/responses/input_tokens",
        "/v1/responses/input_tokens",
        "/api/projects/{project}/openai/responses/input_tokens",
        "/api/projects/{project}/openai/v1/responses/input_tokens",
    ],
    Call {
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
    },
);

pub(super) const GET: Api = row(
    Method::GET,
    &[
        "/openai/responses/{id}",
        "/openai/v1/responses/{id}",
        "/v1/responses/{id}",
        "/api/projects/{project}/openai/responses/{id}",
        "/api/projects/{project}/openai/v1/responses/{id}",
    ],
    kept(Upstream::Resource("responses/{id}"), Kept::Response, true),
);

pub(super) const DELETE: Api = row(
    Method::DELETE,
    &[
        "/openai/responses/{id}",
        "/openai/v1/responses/{id}",
        "/v1/responses/{id}",
        "/api/projects/{project}/openai/responses/{id}",
        "/api/projects/{project}/openai/v1/responses/{id}",
    ],
    kept(Upstream::Resource("responses/{id}"), Kept::Response, true),
);

pub(super) const CANCEL: Api = row(
    Method::POST,
    &[
        "/openai/responses/{id}/cancel",
        "/openai/v1/responses/{id}/cancel",
        "/v1/responses/{id}/cancel",
        "/api/projects/{project}/openai/responses/{id}/cancel",
        "/api/projects/{project}/openai/v1/responses/{id}/cancel",
    ],
    kept(
        Upstream::Resource("responses/{id}/cancel"),
        Kept::Response,
        true,
    ),
);

pub(super) const INPUT_ITEMS: Api = row(
    Method::GET,
    &[
        "/openai/responses/{id}/input_items",
        "/openai/v1/responses/{id}/input_items",
        "/v1/responses/{id}/input_items",
        "/api/projects/{project}/openai/responses/{id}/input_items",
        "/api/projects/{project}/openai/v1/responses/{id}/input_items",
    ],
    kept(
        Upstream::Resource("responses/{id}/input_items"),
        Kept::Response,
        false,
    ),
);

pub(super) const CONVERSE: Api = row(
    Method::POST,
    &[
        "/openai/conversations",
        "/openai/v1/conversations",
        "/v1/conversations",
        "/api/projects/{project}/openai/conversations",
        "/api/projects/{project}/openai/v1/conversations",
    ],
    Call {
        form: Form::Json,
        ..kept(Upstream::Undated("conversations"), Kept::Conversation, true)
    },
);

pub(super) const CONVERSATION: Api = row(
    Method::GET,
    &[
        "/openai/conversations/{id}",
        "/openai/v1/conversations/{id}",
        "/v1/conversations/{id}",
        "/api/projects/{project}/openai/conversations/{id}",
        "/api/projects/{project}/openai/v1/conversations/{id}",
    ],
    kept(
        Upstream::Undated("conversations/{id}"),
        Kept::Conversation,
        true,
    ),
);

pub(super) const UPDATE: Api = row(
    Method::POST,
    &[
        "/openai/conversations/{id}",
        "/openai/v1/conversations/{id}",
        "/v1/conversations/{id}",
        "/api/projects/{project}/openai/conversations/{id}",
        "/api/projects/{project}/openai/v1/conversations/{id}",
    ],
    Call {
        form: Form::Json,
        ..kept(
            Upstream::Undated("conversations/{id}"),
            Kept::Conversation,
            true,
        )
    },
);

pub(super) const DELETE_CONVERSATION: Api = row(
    Method::DELETE,
    &[
        "/openai/conversations/{id}",
        "/openai/v1/conversations/{id}",
        "/v1/conversations/{id}",
        "/api/projects/{project}/openai/conversations/{id}",
        "/api/projects/{project}/openai/v1/conversations/{id}",
    ],
    kept(
        Upstream::Undated("conversations/{id}"),
        Kept::Conversation,
        true,
    ),
);

pub(super) const ITEMS: Api = row(
    Method::GET,
    &[
        "/openai/conversations/{id}/items",
        "/openai/v1/conversations/{id}/items",
        "/v1/conversations/{id}/items",
        "/api/projects/{project}/openai/conversations/{id}/items",
        "/api/projects/{project}/openai/v1/conversations/{id}/items",
    ],
    kept(
        Upstream::Undated("conversations/{id}/items"),
        Kept::Conversation,
        false,
    ),
);

pub(super) const ADD_ITEMS: Api = row(
    Method::POST,
    &[
        "/openai/conversations/{id}/items",
        "/openai/v1/conversations/{id}/items",
        "/v1/conversations/{id}/items",
        "/api/projects/{project}/openai/conversations/{id}/items",
        "/api/projects/{project}/openai/v1/conversations/{id}/items",
    ],
    Call {
        form: Form::Json,
        ..kept(
            Upstream::Undated("conversations/{id}/items"),
            Kept::Conversation,
            false,
        )
    },
);

pub(super) const ITEM: Api = row(
    Method::GET,
    &[
        "/openai/conversations/{id}/items/{item}",
        "/openai/v1/conversations/{id}/items/{item}",
        "/v1/conversations/{id}/items/{item}",
        "/api/projects/{project}/openai/conversations/{id}/items/{item}",
        "/api/projects/{project}/openai/v1/conversations/{id}/items/{item}",
    ],
    kept(
        Upstream::Undated("conversations/{id}/items/{item}"),
        Kept::Conversation,
        false,
    ),
);

pub(super) const DELETE_ITEM: Api = row(
    Method::DELETE,
    &[
        "/openai/conversations/{id}/items/{item}",
        "/openai/v1/conversations/{id}/items/{item}",
        "/v1/conversations/{id}/items/{item}",
        "/api/projects/{project}/openai/conversations/{id}/items/{item}",
        "/api/projects/{project}/openai/v1/conversations/{id}/items/{item}",
    ],
    kept(
        Upstream::Undated("conversations/{id}/items/{item}"),
        Kept::Conversation,
        true,
    ),
);

const fn row(method: Method, paths: &'static [&'static str], call: Call) -> Api {
    Api {
        operation: Operation::Responses,
        dialect: Dialect::OpenAi,
        method,
        paths,
        answer: Answer::Backend(call),
    }
}

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
