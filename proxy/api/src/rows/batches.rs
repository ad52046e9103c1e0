//! Batches: files whose lines are requests. Nothing in a call about them names a model: those stand in the lines,
//! and what a batch costs in the lines of its answers.

use http::Method;
use proxy_core::names::Operation;

use super::response::kept;
use crate::api::{Answer, Answers, Api, Billing, Call, Form, State, Upstream};
use crate::body::Kept;
use crate::error::Dialect;
use crate::{batches, wordless};

/// How a batch is asked for by its id.
pub static BATCH: Call = kept(
    Upstream::Resource("batches/{id}"),
    Kept::Batch,
    Answers::Itself,
);

/// How the lines of its files are asked for.
pub static CONTENT: Call = kept(
    Upstream::Resource("files/{id}/content"),
    Kept::File,
    Answers::Bytes,
);

/// `AzureOpenAI` clients in JavaScript put the deployment that they were made for into its path.
pub(super) const CREATE: Api = row(
    Method::POST,
    &[
        "/openai/batches",
        "/openai/v1/batches",
        "/v1/batches",
        "/api/projects/{project}/openai/batches",
        "/api/projects/{project}/openai/v1/batches",
        "/openai/deployments/{model}/batches",
        "/openai/v1/deployments/{model}/batches",
        "/v1/deployments/{model}/batches",
    ],
    Call {
        form: Form::Json,
        billing: Billing::Batch,
        events: &wordless::GRAMMAR,
        read_usage: batches::untold,
        ..kept(Upstream::Resource("batches"), Kept::Batch, Answers::Itself)
    },
);

/// The backend knows no consumers: its list has the batches of all.
pub(super) const LIST: Api = row(
    Method::GET,
    paths!("batches"),
    Call {
        state: Some(State {
            item: None,
            kept: Kept::Batch,
            without_model: true,
            answers: Answers::Bytes,
            lists: true,
        }),
        ..kept(Upstream::Resource("batches"), Kept::Batch, Answers::Bytes)
    },
);

pub(super) const GET: Api = row(
    Method::GET,
    paths!("batches/{id}"),
    kept(
        Upstream::Resource("batches/{id}"),
        Kept::Batch,
        Answers::Itself,
    ),
);

pub(super) const CANCEL: Api = row(
    Method::POST,
    paths!("batches/{id}/cancel"),
    kept(
        Upstream::Resource("batches/{id}/cancel"),
        Kept::Batch,
        Answers::Itself,
    ),
);

const fn row(method: Method, paths: &'static [&'static str], call: Call) -> Api {
    Api {
        operation: Operation::Batches,
        dialect: Dialect::OpenAi,
        method,
        paths,
        answer: Answer::Backend(call),
    }
}
