//! Images that are made or edited, and sound that is written down. Files come in a form: the model is in a field
//! of it, or in the path.

use http::Method;
use proxy_core::names::Operation;

use crate::api::{Answer, Api, Billing, Call, Form, Upstream, UsageRequest};
use crate::body::Member;
use crate::end_user::UserMember;
use crate::error::Dialect;
use crate::files::FileKind;
use crate::{transcript, usage, wordless};

pub(super) const TRANSCRIBE: Api = row(
    Operation::Audio,
    &[
        "/openai/deployments/{model}/audio/transcriptions",
        "/openai/v1/audio/transcriptions",
        "/openai/v1/deployments/{model}/audio/transcriptions",
        "/v1/audio/transcriptions",
        "/v1/deployments/{model}/audio/transcriptions",
    ],
    TRANSCRIPTIONS,
);

/// Into English.
pub(super) const TRANSLATE: Api = row(
    Operation::Audio,
    &[
        "/openai/deployments/{model}/audio/translations",
        "/openai/v1/audio/translations",
        "/openai/v1/deployments/{model}/audio/translations",
        "/v1/audio/translations",
        "/v1/deployments/{model}/audio/translations",
    ],
    Call {
        upstream: Upstream::OpenAi("audio/translations"),
        ..TRANSCRIPTIONS
    },
);

pub(super) const EDIT: Api = row(
    Operation::Images,
    &[
        "/openai/deployments/{model}/images/edits",
        "/openai/v1/images/edits",
        "/openai/v1/deployments/{model}/images/edits",
        "/v1/images/edits",
        "/v1/deployments/{model}/images/edits",
    ],
    EDITS,
);

const fn row(operation: Operation, paths: &'static [&'static str], call: Call) -> Api {
    Api {
        operation,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths,
        answer: Answer::Backend(call),
    }
}

const TRANSCRIPTIONS: Call = Call {
    form: Form::Multipart,
    members: &[("model", Member::Model), ("stream", Member::Stream)],
    default_model: None,
    upstream: Upstream::OpenAi("audio/transcriptions"),
    output_bounds: &[],
    has_output: true,
    billing: Billing::Metered,
    users: &[],
    usage_request: UsageRequest::None,
    events: &transcript::GRAMMAR,
    read_usage: transcript::usage,
    prompt: None,
    files: Some(FileKind::Sound),
    state: None,
};

pub(super) const IMAGES: Call = Call {
    form: Form::Json,
    members: &[
        ("model", Member::Model),
        ("stream", Member::Stream),
        ("n", Member::Choices),
        ("quality", Member::Quality),
        ("user", Member::User(UserMember::User)),
    ],
    default_model: None,
    upstream: Upstream::OpenAi("images/generations"),
    output_bounds: &[],
    has_output: true,
    billing: Billing::Metered,
    users: &[UserMember::User],
    usage_request: UsageRequest::None,
    events: &wordless::GRAMMAR,
    read_usage: usage::generation,
    prompt: None,
    files: None,
    state: None,
};

const EDITS: Call = Call {
    form: Form::Multipart,
    upstream: Upstream::OpenAi("images/edits"),
    files: Some(FileKind::Images),
    ..IMAGES
};
