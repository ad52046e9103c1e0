use std::fmt::Write;

use expect_test::expect_file;

use http::Method;
use serde::Deserialize;

use super::ROWS;
use crate::api::{Answer, Api, Billing, find};

/// The calls that the test of all clients makes, through a real gateway.
const CALLS: &str = include_str!("../../../../tests/e2e/clients/surface.json");

/// A call of an official SDK for Python.
#[derive(Deserialize)]
struct Tested {
    client: String,
    call: String,
    method: String,
    path: String,
}

/// By which calls a row is tested.
fn tested(api: &Api, calls: &[Tested]) -> String {
    let is_of = |one: &&Tested| {
        let method: Method = one.method.parse().expect("a method");
        // `$CALL` stands for an id.
        let path = one.path.replace('$', "");
        let found = find(ROWS, &method, &path).expect("a row");
        std::ptr::eq(found.api, api)
    };
    let calls = calls.iter().filter(is_of);
    let mut names: Vec<_> = calls
        .map(|one| format!("`{}().{}`", one.client, one.call))
        .collect();
    names.dedup();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join("<br>")
}

/// Whether the row is about something that a backend keeps.
fn stateful(api: &Api) -> &'static str {
    let state = api.answer.call().and_then(|call| call.state);
    if state.is_some() { "yes" } else { "no" }
}

/// By what an operation is metered.
fn meter(api: &Api) -> &'static str {
    match &api.answer {
        Answer::Models | Answer::Model | Answer::Deployments | Answer::Deployment => {
            "nothing: the gateway answers"
        }
        Answer::Backend(call) if call.billing == Billing::Free => "nothing: it is not billed",
        Answer::Backend(call) if call.billing == Billing::Batch => {
            "input and output of `usage` in the lines of its output"
        }
        Answer::Backend(call) if call.billing == Billing::Request => "a request: it is not billed",
        Answer::Backend(call) if call.billing == Billing::Priced => {
            "a request: its price is by size or time; a rule with limits in money needs `unmetered: Allow`"
        }
        Answer::Backend(call) if call.billing == Billing::Unmetered => {
            "nothing: a rule with limits in tokens or money needs `unmetered: Allow`"
        }
        Answer::Backend(call) if call.billing == Billing::MeteredInEvents => {
            "input and output of `usage` in a stream (`stream_format: sse`); without one nothing: a rule with limits in \
             tokens or money needs `unmetered: Allow`"
        }
        Answer::Backend(call) if !call.has_output => "input of `usage`",
        Answer::Backend(call) if call.events.answer.is_none() => "input and output of `usage`",
        Answer::Backend(_) => "input and output of `usage`; without it, the text of the answer",
    }
}

#[test]
fn the_page_of_the_surface_is_current() {
    let mut page = String::from(
        "# What the gateway serves\n\nGenerated from the code: one row for each operation in one dialect. A rule matches the \
         operation by `matches[].operations`; what has no row is refused by its name, with 404 `operation_not_served`.\n\n\
         `{model}` is the model that the client asks for, where the path names it; elsewhere it is `model` of the body. \
         Paths below `/openai/` and not `/openai/v1/` take `api-version`. Errors have the shape of the \
         dialect. Stateful is what makes, continues or asks for something that a backend keeps. The calls are those of OpenAI's and Anthropic's SDKs for \
         Python by which a test of all clients asks for the row; each API is tested by more of them.\n\n\
         | operation | dialect | method | paths | metered by | stateful | tested by |\n|---|---|---|---|---|---|---|\n",
    );
    let calls: Vec<Tested> = serde_json::from_str(CALLS).expect("a table of calls");
    for api in ROWS {
        let paths: Vec<_> = api.paths.iter().map(|path| format!("`{path}`")).collect();
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} |",
            api.operation.as_str(),
            api.dialect.as_str(),
            api.method,
            paths.join("<br>"),
            meter(api),
            stateful(api),
            tested(api, &calls),
        )
        .expect("a string");
    }
    page.push_str(
        "\nAgents of Foundry reach the gateway by a `ModelGateway` connection: `targetUrl` is `https://HOST/openai` with \
         `deploymentInPath` and an `inferenceAPIVersion`, or `https://HOST/openai/v1` without; the models are listed at \
         `/openai/deployments` (`deploymentProvider: AzureOpenAI`) or `/openai/v1/models` (`OpenAI`).\n\
         \nMost operations of a backend take JSON and answer with JSON, or with events if the body asks for a stream. Transcriptions, translations, \
         image edits, files and parts of uploads are sent as `multipart/form-data`; speech answers with sound, transcriptions also with text and \
         subtitles, the content of a file is its bytes. A form may have its `model` before or behind its files; one of more than `--max-body` bytes \
         needs its `Content-Length`, and its `model` and other fields before its first file, and goes on as it comes. \
         Lists of models have Anthropic's shape for clients that send `anthropic-version`; lists of deployments have \
         that of Azure's resource manager.\n\n\
         What a backend keeps (responses, conversations, files, uploads, batches, vector stores, containers) belongs to the consumer that made it: its id leaves the gateway \
         with a tag of 16 characters, and comes back to the same Foundry resource, on every replica. For any other consumer, \
         and for an id from before the gateway, it is not there (404 `not_kept`; `previous_response_id`: 400 \
         `previous_response_not_found`). A `file_id` in a body is looked at in the same way. A list of files, batches, vector stores or containers is refused where ids have tags: it would show those of all consumers; lists within one's own store or container are served. [The tags](state.md).\n",
    );
    expect_file!["../../../../docs/surface.md"].assert_eq(&page);
}
