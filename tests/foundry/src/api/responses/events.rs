//! The events of a response (Responses API reference, streaming): numbered from 0, one terminal event,
//! no `[DONE]`.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    answer::PADDING,
    errors,
    record::Usage,
    script::{Script, Step},
    sse,
    state::{
        draft::{Draft, Status, part},
        response::Schedule,
    },
};

/// How a stream is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Deltas carry padding that hides their length.
    pub(crate) obfuscate: bool,
    /// In the background it is produced by schedule, and not billed to the request that reads it.
    pub(crate) schedule: Option<Schedule>,
}

/// All events of a response, from the first to the terminal one.
pub(crate) fn script(draft: &Arc<Draft>, manner: Manner, completed: u64) -> Script {
    let mut writer = Writer {
        draft,
        manner,
        steps: Vec::new(),
        due: manner.schedule.map(|schedule| schedule.start),
    };
    writer.lifecycle("response.created");
    if manner.schedule.is_some() {
        writer.lifecycle("response.queued");
        writer.due = manner.schedule.map(Schedule::taken_up);
    }
    writer.lifecycle("response.in_progress");
    writer.reasoning();
    if draft.size.visible > 0 {
        writer.item();
    }
    writer.due = manner.schedule.map(Schedule::end);
    let terminal = format!("response.{}", draft.ending().name());
    let object = draft.object(draft.ending(), completed);
    writer.event(&terminal, json!({"response": object}));
    Script::new(writer.steps, failed)
}

/// The terminal event of a response that was cancelled: `response.failed`, with the status `cancelled`.
pub(crate) fn cancelled(draft: &Draft, number: u64) -> String {
    let object = draft.object(Status::Cancelled, 0);
    let data = json!({
        "type": "response.failed", "sequence_number": number, "response": object,
    });
    sse::named("response.failed", &data)
}

/// A model that fails: the nested form, as the service sends it.
fn failed(number: u64) -> String {
    let mut data = errors::server_error();
    if let Some(fields) = data.as_object_mut() {
        fields.insert("type".to_owned(), json!("error"));
        fields.insert("sequence_number".to_owned(), json!(number));
    }
    sse::named("error", &data)
}

struct Writer<'a> {
    draft: &'a Draft,
    manner: Manner,
    steps: Vec<Step>,
    due: Option<Duration>,
}

impl Writer<'_> {
    /// Adds an event with its number.
    fn event(&mut self, name: &str, data: Value) {
        let step = Step::event(self.text(name, data));
        self.steps.push(step.due(self.due));
    }

    fn text(&self, name: &str, mut data: Value) -> String {
        if let Some(fields) = data.as_object_mut() {
            fields.insert("type".to_owned(), json!(name));
            fields.insert("sequence_number".to_owned(), json!(self.steps.len()));
        }
        sse::named(name, &data)
    }

    fn lifecycle(&mut self, name: &str) {
        let waits = self.manner.schedule.is_some() && name != "response.in_progress";
        let status = if waits {
            Status::Queued
        } else {
            Status::InProgress
        };
        let object = self.draft.object(status, 0);
        self.event(name, json!({"response": object}));
    }

    fn reasoning(&mut self) {
        let tokens = self.draft.size.reasoning;
        if tokens == 0 {
            return;
        }
        let item = self.draft.reasoning();
        self.event(
            "response.output_item.added",
            json!({"output_index": 0, "item": item}),
        );
        let done = "response.output_item.done";
        let text = self.text(done, json!({"output_index": 0, "item": item}));
        let step = Step::event(text).made(self.made(Usage {
            completion_tokens: tokens,
            reasoning_tokens: tokens,
            ..Usage::default()
        }));
        self.steps.push(step.due(self.due));
    }

    /// What the request that reads the stream is billed.
    fn made(&self, usage: Usage) -> Usage {
        if self.manner.schedule.is_some() {
            Usage::default()
        } else {
            usage
        }
    }

    /// The message or the function call.
    fn item(&mut self) {
        let draft = self.draft;
        let index = u64::from(draft.size.reasoning > 0);
        let id = &draft.item_id;
        let item = draft.item("", Status::InProgress);
        self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        );
        // A model that fails leaves its item open.
        let is_broken = draft.ending() == Status::Failed;
        let text = draft.text();
        if draft.function.is_some() {
            let place = json!({"item_id": id, "output_index": index});
            self.deltas("response.function_call_arguments.delta", &place);
            if is_broken {
                return;
            }
            let done = json!({"item_id": id, "output_index": index, "arguments": text});
            self.event("response.function_call_arguments.done", done);
        } else {
            let place = json!({
                "item_id": id, "output_index": index, "content_index": 0, "logprobs": [],
            });
            let content = |part: Value| {
                json!({
                    "item_id": id, "output_index": index, "content_index": 0, "part": part,
                })
            };
            self.event("response.content_part.added", content(part("")));
            self.deltas("response.output_text.delta", &place);
            if is_broken {
                return;
            }
            let mut done = place.clone();
            if let Some(fields) = done.as_object_mut() {
                fields.insert("text".to_owned(), json!(text));
            }
            self.event("response.output_text.done", done);
            self.event("response.content_part.done", content(part(&text)));
        }
        let item = draft.item(&text, draft.ending());
        self.event(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        );
    }

    /// One event per token.
    fn deltas(&mut self, name: &str, place: &Value) {
        let count = self.draft.size.visible;
        for (index, piece) in (0..).zip(self.draft.pieces()) {
            let mut data = place.clone();
            if let Some(fields) = data.as_object_mut() {
                fields.insert("delta".to_owned(), json!(piece));
                if self.manner.obfuscate {
                    let pad = PADDING.get(piece.len() % PADDING.len()..);
                    fields.insert("obfuscation".to_owned(), json!(pad.unwrap_or_default()));
                }
            }
            let text = self.text(name, data);
            let step = match self.manner.schedule {
                None => Step::token(text, index < self.draft.usage.audio_tokens),
                Some(schedule) => {
                    self.due = Some(schedule.token(index, count));
                    Step::event(text).due(self.due)
                }
            };
            self.steps.push(step);
        }
    }
}
