//! A response as it will be, and how it looks on its way there.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    answer::{self, Answer},
    deployment::{Finish, Size},
    record::Usage,
    tool_call::ToolCall,
};

/// Where a response stands (Responses API reference, `status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

/// Everything about a response that is known when it is asked for.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) answer: Arc<Answer>,
    pub(crate) size: Size,
    pub(crate) usage: Usage,
    /// The fields that repeat the request or its defaults.
    pub(crate) echo: Map<String, Value>,
    /// Characters of the prompt: the content filter reports them.
    pub(crate) prompt_end: u64,
    pub(crate) reasoning_id: String,
    /// Sealed reasoning, if the request asked for it.
    pub(crate) encrypted: Option<String>,
    pub(crate) item_id: String,
    /// The function that the caller makes the model call, instead of a message.
    pub(crate) function: Option<Function>,
}

/// A call of one of the caller's functions.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) call_id: String,
    /// The call that the prompt asks for, with its arguments.
    pub(crate) asked: Option<ToolCall>,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will change any more.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::InProgress => false,
            Self::Completed | Self::Incomplete | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl Draft {
    /// How it ends unless it is stopped.
    pub(crate) fn ending(&self) -> Status {
        match self.size.finish {
            Finish::Stop => Status::Completed,
            Finish::Cap | Finish::Filter => Status::Incomplete,
            Finish::Failure => Status::Failed,
        }
    }

    /// The response at that moment. Output and usage are there once it has ended well; one that
    /// failed or was cancelled has neither.
    pub(crate) fn object(&self, status: Status, completed: u64) -> Value {
        let is_done = matches!(status, Status::Completed | Status::Incomplete);
        let when = |holds: bool, value: Value| if holds { value } else { Value::Null };
        let error = json!({"code": "server_error", "message": "The model failed to answer."});
        let reason = match self.size.finish {
            Finish::Filter => "content_filter",
            Finish::Stop | Finish::Cap | Finish::Failure => "max_output_tokens",
        };
        let output = if is_done { self.output() } else { Vec::new() };
        let fields = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": when(status == Status::Completed, json!(completed)),
            "status": status.name(),
            "error": when(status == Status::Failed, error),
            "incomplete_details": when(status == Status::Incomplete, json!({"reason": reason})),
            "output": output,
            "usage": when(is_done, usage(self.usage)),
        });
        let mut object = self.echo.clone();
        object.extend(fields.as_object().cloned().unwrap_or_default());
        if is_done {
            object.insert("content_filters".to_owned(), self.filters());
        }
        Value::Object(object)
    }

    /// The finished output items.
    pub(crate) fn output(&self) -> Vec<Value> {
        let reasoning = (self.size.reasoning > 0).then(|| self.reasoning());
        let item = (self.size.visible > 0).then(|| self.item(&self.text(), self.ending()));
        reasoning.into_iter().chain(item).collect()
    }

    /// The reasoning item, without the reasoning.
    pub(crate) fn reasoning(&self) -> Value {
        let mut item = json!({"id": self.reasoning_id, "type": "reasoning", "summary": []});
        if let (Some(sealed), Some(fields)) = (&self.encrypted, item.as_object_mut()) {
            fields.insert("encrypted_content".to_owned(), json!(sealed));
        }
        item
    }

    /// The message or the function call, with so much text.
    pub(crate) fn item(&self, text: &str, status: Status) -> Value {
        let status = status.name();
        match &self.function {
            Some(function) => json!({
                "id": self.item_id, "type": "function_call", "status": status, "arguments": text,
                "call_id": function.call_id, "name": function.name,
            }),
            None => {
                let is_started = status == Status::InProgress.name();
                let content = if is_started {
                    json!([])
                } else {
                    json!([part(text)])
                };
                json!({
                    "id": self.item_id, "type": "message", "status": status, "role": "assistant",
                    "content": content,
                })
            }
        }
    }

    /// The whole text of the message, or the arguments of the call.
    pub(crate) fn text(&self) -> String {
        self.pieces().concat()
    }

    /// The text by token.
    pub(crate) fn pieces(&self) -> Vec<String> {
        let function = self.function.as_ref();
        if let Some(call) = function.and_then(|function| function.asked.as_ref()) {
            return call.pieces(self.size.visible);
        }
        let mut pieces = self.answer.pieces(self.size.visible);
        if function.is_some() {
            answer::as_argument(&mut pieces, self.size.finish == Finish::Stop);
        }
        pieces
    }

    /// Azure's annotations: one of the prompt, one of the completion.
    fn filters(&self) -> Value {
        let results = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let mut prompt = results(answer::SAFE);
        let jailbreak = json!({"detected": false, "filtered": false});
        if let Some(prompt) = prompt.as_object_mut() {
            prompt.insert("jailbreak".to_owned(), jailbreak);
        }
        let entry = |source: &str, is_blocked: bool, results: &Value, end: u64| {
            json!({
                "blocked": is_blocked, "source_type": source, "content_filter_raw": [],
                "content_filter_results": results,
                "content_filter_offsets": {"start_offset": 0, "end_offset": end, "check_offset": 0},
            })
        };
        let end = u64::try_from(self.text().len()).unwrap_or(u64::MAX);
        let is_blocked = self.size.finish == Finish::Filter;
        let completion = results(answer::filter(self.size.finish));
        json!([
            entry("prompt", false, &prompt, self.prompt_end),
            entry("completion", is_blocked, &completion, end),
        ])
    }
}

/// The one content part of a message.
pub(crate) fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

/// The usage object of the Responses API.
pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total(),
    })
}
