//! Files and uploads: what clients put at a backend, and ask for by its id. Nothing in a request for that names
//! a model, and nothing of it is billed. What makes a file or moves its bytes is a request; limits of these count it.

use http::Method;
use proxy_core::names::Operation;

use super::response::kept;
use crate::api::{Answer, Answers, Api, Billing, Call, Form, State, Upstream};
use crate::body::{Kept, Member};
use crate::error::Dialect;
use crate::files::FileKind;

pub(super) const CREATE: Api = row(
    Method::POST,
    paths!("files"),
    Call {
        files: Some(FileKind::Kept),
        billing: Billing::Request,
        ..kept(Upstream::Resource("files"), Kept::File, Answers::Itself)
    },
);

/// The backend knows no consumers: its list has the files of all.
pub(super) const LIST: Api = row(
    Method::GET,
    paths!("files"),
    Call {
        state: Some(State {
            kept: Kept::File,
            item: None,
            without_model: true,
            answers: Answers::Bytes,
            lists: true,
        }),
        ..kept(Upstream::Resource("files"), Kept::File, Answers::Bytes)
    },
);

pub(super) const GET: Api = row(
    Method::GET,
    paths!("files/{id}"),
    kept(
        Upstream::Resource("files/{id}"),
        Kept::File,
        Answers::Itself,
    ),
);

pub(super) const DELETE: Api = row(
    Method::DELETE,
    paths!("files/{id}"),
    kept(
        Upstream::Resource("files/{id}"),
        Kept::File,
        Answers::Itself,
    ),
);

pub(super) const CONTENT: Api = row(
    Method::GET,
    paths!("files/{id}/content"),
    Call {
        billing: Billing::Request,
        ..kept(
            Upstream::Resource("files/{id}/content"),
            Kept::File,
            Answers::Bytes,
        )
    },
);

pub(super) const UPLOAD: Api = row(
    Method::POST,
    paths!("uploads"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        ..kept(Upstream::Resource("uploads"), Kept::Upload, Answers::Itself)
    },
);

pub(super) const PART: Api = row(
    Method::POST,
    paths!("uploads/{id}/parts"),
    Call {
        files: Some(FileKind::Kept),
        billing: Billing::Request,
        ..kept(
            Upstream::Resource("uploads/{id}/parts"),
            Kept::Upload,
            Answers::Itself,
        )
    },
);

pub(super) const COMPLETE: Api = row(
    Method::POST,
    paths!("uploads/{id}/complete"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        members: &[("part_ids", Member::Parts)],
        ..kept(
            Upstream::Resource("uploads/{id}/complete"),
            Kept::Upload,
            Answers::Itself,
        )
    },
);

pub(super) const CANCEL: Api = row(
    Method::POST,
    paths!("uploads/{id}/cancel"),
    kept(
        Upstream::Resource("uploads/{id}/cancel"),
        Kept::Upload,
        Answers::Itself,
    ),
);

const fn row(method: Method, paths: &'static [&'static str], call: Call) -> Api {
    Api {
        operation: Operation::Files,
        dialect: Dialect::OpenAi,
        method,
        paths,
        answer: Answer::Backend(call),
    }
}
