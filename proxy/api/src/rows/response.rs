//! The Responses API: its operations, and what a backend keeps of it. Nothing in a request for that names a
//! model.

use http::Method;
use proxy_core::names::Operation;

use crate::api::{Answer, Answers, Api, Billing, Call, Form, State, Upstream, UsageRequest};
use crate::body::{BoundName, Kept, Member};
use crate::end_user::UserMember;
use crate::error::Dialect;
use crate::prompt::Prompt;
use crate::{responses, usage};

/// How a response is asked for by its id.
pub static RETRIEVED: Call = kept(
    Upstream::Resource("responses/{id}"),
    Kept::Response,
    Answers::Itself,
);

pub(super) const CREATE: Api = row(Method::POST, paths!("responses"), RESPONSES);

pub(super) const COMPACT: Api = row(
    Method::POST,
    paths!("responses/compact"),
    Call {
        upstream: Upstream::Undated("responses/compact"),
        users: &[],
        ..RESPONSES
    },
);

pub(super) const INPUT_TOKENS: Api = row(
    Method::POST,
    paths!("responses/input_tokens"),
    Call {
        upstream: Upstream::Undated("responses/input_tokens"),
        users: &[],
        state: Some(State {
            kept: Kept::Response,
            item: None,
            without_model: false,
            answers: Answers::Bytes,
            lists: false,
        }),
        has_output: false,
        billing: Billing::Free,
        ..RESPONSES
    },
);

pub(super) const GET: Api = row(
    Method::GET,
    paths!("responses/{id}"),
    kept(
        Upstream::Resource("responses/{id}"),
        Kept::Response,
        Answers::Itself,
    ),
);

pub(super) const DELETE: Api = row(
    Method::DELETE,
    paths!("responses/{id}"),
    kept(
        Upstream::Resource("responses/{id}"),
        Kept::Response,
        Answers::Itself,
    ),
);

pub(super) const CANCEL: Api = row(
    Method::POST,
    paths!("responses/{id}/cancel"),
    kept(
        Upstream::Resource("responses/{id}/cancel"),
        Kept::Response,
        Answers::Itself,
    ),
);

pub(super) const INPUT_ITEMS: Api = row(
    Method::GET,
    paths!("responses/{id}/input_items"),
    kept(
        Upstream::Resource("responses/{id}/input_items"),
        Kept::Response,
        Answers::Items,
    ),
);

pub(super) const CONVERSE: Api = row(
    Method::POST,
    paths!("conversations"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        ..kept(
            Upstream::Undated("conversations"),
            Kept::Conversation,
            Answers::Itself,
        )
    },
);

pub(super) const CONVERSATION: Api = row(
    Method::GET,
    paths!("conversations/{id}"),
    kept(
        Upstream::Undated("conversations/{id}"),
        Kept::Conversation,
        Answers::Itself,
    ),
);

pub(super) const UPDATE: Api = row(
    Method::POST,
    paths!("conversations/{id}"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        ..kept(
            Upstream::Undated("conversations/{id}"),
            Kept::Conversation,
            Answers::Itself,
        )
    },
);

pub(super) const DELETE_CONVERSATION: Api = row(
    Method::DELETE,
    paths!("conversations/{id}"),
    kept(
        Upstream::Undated("conversations/{id}"),
        Kept::Conversation,
        Answers::Itself,
    ),
);

pub(super) const ITEMS: Api = row(
    Method::GET,
    paths!("conversations/{id}/items"),
    kept(
        Upstream::Undated("conversations/{id}/items"),
        Kept::Conversation,
        Answers::Items,
    ),
);

pub(super) const ADD_ITEMS: Api = row(
    Method::POST,
    paths!("conversations/{id}/items"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        ..kept(
            Upstream::Undated("conversations/{id}/items"),
            Kept::Conversation,
            Answers::Items,
        )
    },
);

pub(super) const ITEM: Api = row(
    Method::GET,
    paths!("conversations/{id}/items/{item}"),
    kept(
        Upstream::Undated("conversations/{id}/items/{item}"),
        Kept::Conversation,
        Answers::Items,
    ),
);

pub(super) const DELETE_ITEM: Api = row(
    Method::DELETE,
    paths!("conversations/{id}/items/{item}"),
    kept(
        Upstream::Undated("conversations/{id}/items/{item}"),
        Kept::Conversation,
        Answers::Itself,
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

/// A call about what a backend keeps. Reading, ending and deleting it drain nothing.
pub(super) const fn kept(upstream: Upstream, kept: Kept, answers: Answers) -> Call {
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
            item: None,
            without_model: true,
            answers,
            lists: false,
        }),
        ..RESPONSES
    }
}

const RESPONSES: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("input", Member::Messages),
        ("instructions", Member::Instructions),
        ("stream", Member::Stream),
        (
            "max_output_tokens",
            Member::OutputBound(BoundName::OutputTokens),
        ),
        ("background", Member::Background),
        ("previous_response_id", Member::PreviousResponse),
        ("conversation", Member::Conversation),
        ("agent", Member::Agent),
        ("agent_reference", Member::Agent),
        ("user", Member::User(UserMember::User)),
        (
            "safety_identifier",
            Member::User(UserMember::SafetyIdentifier),
        ),
        ("prompt_cache_key", Member::CacheKey),
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
    files: None,
    state: Some(State {
        kept: Kept::Response,
        item: None,
        without_model: false,
        answers: Answers::Itself,
        lists: false,
    }),
};
