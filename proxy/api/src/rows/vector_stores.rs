//! Vector stores: files that a backend cuts into pieces and searches. No call names a model, and none is billed in
//! tokens (Azure OpenAI, "Pricing": by the gigabyte and day). What makes a store, or puts files into it, has such a
//! price; it and what reads the text of files are requests, for limits of these.

use http::Method;
use proxy_core::names::Operation;

use super::response::kept;
use crate::api::{Answer, Answers, Api, Billing, Call, Form, State, Upstream};
use crate::body::Kept;
use crate::error::Dialect;

pub(super) const CREATE: Api = row(
    Method::POST,
    paths!("vector_stores"),
    Call {
        form: Form::Json,
        billing: Billing::Priced,
        ..of_store("vector_stores", Answers::Itself)
    },
);

/// The backend knows no consumers: its list has the stores of all.
pub(super) const LIST: Api = row(
    Method::GET,
    paths!("vector_stores"),
    Call {
        state: Some(State {
            lists: true,
            ..state(None, Answers::Bytes)
        }),
        ..of_store("vector_stores", Answers::Bytes)
    },
);

pub(super) const GET: Api = row(
    Method::GET,
    paths!("vector_stores/{id}"),
    of_store("vector_stores/{id}", Answers::Itself),
);

pub(super) const UPDATE: Api = row(
    Method::POST,
    paths!("vector_stores/{id}"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        ..of_store("vector_stores/{id}", Answers::Itself)
    },
);

pub(super) const DELETE: Api = row(
    Method::DELETE,
    paths!("vector_stores/{id}"),
    of_store("vector_stores/{id}", Answers::Itself),
);

pub(super) const SEARCH: Api = row(
    Method::POST,
    paths!("vector_stores/{id}/search"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        ..of_store("vector_stores/{id}/search", Answers::Items)
    },
);

pub(super) const ADD_FILE: Api = row(
    Method::POST,
    paths!("vector_stores/{id}/files"),
    Call {
        form: Form::Json,
        billing: Billing::Priced,
        ..of_store("vector_stores/{id}/files", Answers::Itself)
    },
);

pub(super) const FILES: Api = row(
    Method::GET,
    paths!("vector_stores/{id}/files"),
    of_store("vector_stores/{id}/files", Answers::List),
);

pub(super) const FILE: Api = row(
    Method::GET,
    paths!("vector_stores/{id}/files/{item}"),
    of_file("vector_stores/{id}/files/{item}", Answers::Itself),
);

pub(super) const UPDATE_FILE: Api = row(
    Method::POST,
    paths!("vector_stores/{id}/files/{item}"),
    Call {
        form: Form::Json,
        billing: Billing::Request,
        ..of_file("vector_stores/{id}/files/{item}", Answers::Itself)
    },
);

pub(super) const DELETE_FILE: Api = row(
    Method::DELETE,
    paths!("vector_stores/{id}/files/{item}"),
    of_file("vector_stores/{id}/files/{item}", Answers::Itself),
);

pub(super) const CONTENT: Api = row(
    Method::GET,
    paths!("vector_stores/{id}/files/{item}/content"),
    Call {
        billing: Billing::Request,
        ..of_file("vector_stores/{id}/files/{item}/content", Answers::Items)
    },
);

pub(super) const ADD_BATCH: Api = row(
    Method::POST,
    paths!("vector_stores/{id}/file_batches"),
    Call {
        form: Form::Json,
        billing: Billing::Priced,
        ..of_store("vector_stores/{id}/file_batches", Answers::Itself)
    },
);

pub(super) const BATCH: Api = row(
    Method::GET,
    paths!("vector_stores/{id}/file_batches/{item}"),
    of_batch("vector_stores/{id}/file_batches/{item}", Answers::Itself),
);

pub(super) const CANCEL_BATCH: Api = row(
    Method::POST,
    paths!("vector_stores/{id}/file_batches/{item}/cancel"),
    of_batch(
        "vector_stores/{id}/file_batches/{item}/cancel",
        Answers::Itself,
    ),
);

pub(super) const BATCH_FILES: Api = row(
    Method::GET,
    paths!("vector_stores/{id}/file_batches/{item}/files"),
    of_batch(
        "vector_stores/{id}/file_batches/{item}/files",
        Answers::List,
    ),
);

const fn row(method: Method, paths: &'static [&'static str], call: Call) -> Api {
    Api {
        operation: Operation::VectorStores,
        dialect: Dialect::OpenAi,
        method,
        paths,
        answer: Answer::Backend(call),
    }
}

const fn of_store(suffix: &'static str, answers: Answers) -> Call {
    kept(Upstream::Resource(suffix), Kept::VectorStore, answers)
}

const fn of_file(suffix: &'static str, answers: Answers) -> Call {
    Call {
        state: Some(state(Some(Kept::File), answers)),
        ..of_store(suffix, answers)
    }
}

const fn of_batch(suffix: &'static str, answers: Answers) -> Call {
    Call {
        state: Some(state(Some(Kept::FileBatch), answers)),
        ..of_store(suffix, answers)
    }
}

const fn state(item: Option<Kept>, answers: Answers) -> State {
    State {
        kept: Kept::VectorStore,
        item,
        without_model: true,
        answers,
        lists: false,
    }
}
