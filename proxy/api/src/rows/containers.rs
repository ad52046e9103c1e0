//! Containers: where the code interpreter runs, with its files. No call names a model, and none is billed in tokens
//! (Azure OpenAI, "Pricing": by the session). What begins a session has that price. No dated API has them.

use http::Method;
use proxy_core::names::Operation;

use super::response::kept;
use crate::api::{Answer, Answers, Api, Billing, Call, Form, State, Upstream};
use crate::body::Kept;
use crate::error::Dialect;
use crate::files::FileKind;

pub(super) const CREATE: Api = row(
    Method::POST,
    paths!("containers"),
    Call {
        form: Form::Json,
        billing: Billing::Priced,
        ..of_container("containers", Answers::Itself)
    },
);

/// The backend knows no consumers: its list has the containers of all.
pub(super) const LIST: Api = row(
    Method::GET,
    paths!("containers"),
    Call {
        state: Some(State {
            lists: true,
            ..state(None, Answers::Bytes)
        }),
        ..of_container("containers", Answers::Bytes)
    },
);

pub(super) const GET: Api = row(
    Method::GET,
    paths!("containers/{id}"),
    of_container("containers/{id}", Answers::Itself),
);

pub(super) const DELETE: Api = row(
    Method::DELETE,
    paths!("containers/{id}"),
    of_container("containers/{id}", Answers::Itself),
);

/// A form with the file itself, or JSON with the id of one.
pub(super) const ADD_FILE: Api = row(
    Method::POST,
    paths!("containers/{id}/files"),
    Call {
        form: Form::Either,
        files: Some(FileKind::Kept),
        billing: Billing::Request,
        ..of_container("containers/{id}/files", Answers::Itself)
    },
);

pub(super) const FILES: Api = row(
    Method::GET,
    paths!("containers/{id}/files"),
    of_container("containers/{id}/files", Answers::List),
);

pub(super) const FILE: Api = row(
    Method::GET,
    paths!("containers/{id}/files/{item}"),
    of_file("containers/{id}/files/{item}", Answers::Itself),
);

pub(super) const DELETE_FILE: Api = row(
    Method::DELETE,
    paths!("containers/{id}/files/{item}"),
    of_file("containers/{id}/files/{item}", Answers::Itself),
);

pub(super) const CONTENT: Api = row(
    Method::GET,
    paths!("containers/{id}/files/{item}/content"),
    Call {
        billing: Billing::Request,
        ..of_file("containers/{id}/files/{item}/content", Answers::Bytes)
    },
);

const fn row(method: Method, paths: &'static [&'static str], call: Call) -> Api {
    Api {
        operation: Operation::Containers,
        dialect: Dialect::OpenAi,
        method,
        paths,
        answer: Answer::Backend(call),
    }
}

const fn of_container(suffix: &'static str, answers: Answers) -> Call {
    kept(Upstream::Undated(suffix), Kept::Container, answers)
}

const fn of_file(suffix: &'static str, answers: Answers) -> Call {
    Call {
        state: Some(state(Some(Kept::ContainerFile), answers)),
        ..of_container(suffix, answers)
    }
}

const fn state(item: Option<Kept>, answers: Answers) -> State {
    State {
        kept: Kept::Container,
        item,
        without_model: true,
        answers,
        lists: false,
    }
}
