//! The answer of the Messages API.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    answer::{self, Answer},
    deployment::{Finish, Size},
    record::Usage,
    tool_call::ToolCall,
};

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) answer: Arc<Answer>,
    pub(crate) size: Size,
    pub(crate) usage: Usage,
    /// What is written to the cache stays there for an hour instead of five minutes.
    pub(crate) is_cached_long: bool,
    /// The tool that is used, instead of a text.
    pub(crate) tool: Option<Tool>,
}

#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The call that the prompt asks for, with its arguments.
    pub(crate) asked: Option<ToolCall>,
}

/// What proves thinking to be Anthropic's own.
pub(crate) const SIGNATURE: &str = "EqQBCkYIChgCKkDsimulated==";
pub(crate) const THOUGHT: &str = "Let me think.";

impl Message {
    pub(crate) fn object(&self) -> Value {
        let mut content = Vec::new();
        if self.size.reasoning > 0 {
            content.push(json!({"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}));
        }
        if self.size.visible > 0 {
            content.push(match &self.tool {
                Some(tool) => {
                    // Input that was cut is no JSON, and so there is none.
                    let whole = self.pieces().concat();
                    let input = serde_json::from_str(&whole).unwrap_or_else(|_| json!({}));
                    json!({"type": "tool_use", "id": tool.id, "name": tool.name, "input": input})
                }
                None => json!({"type": "text", "text": self.pieces().concat()}),
            });
        }
        let usage = self.usage(self.usage.completion_tokens);
        self.around(&content, Some(self.stop_reason()), &usage)
    }

    /// The text, or the input of the tool, by token.
    pub(crate) fn pieces(&self) -> Vec<String> {
        let tool = self.tool.as_ref();
        if let Some(call) = tool.and_then(|tool| tool.asked.as_ref()) {
            return call.pieces(self.size.visible);
        }
        let mut pieces = self.answer.pieces(self.size.visible);
        if tool.is_some() {
            answer::as_argument(&mut pieces, self.size.finish == Finish::Stop);
        }
        pieces
    }

    /// The message at its start, where nothing is written yet.
    pub(crate) fn started(&self) -> Value {
        self.around(&[], None, &self.usage(1))
    }

    fn around(&self, content: &[Value], stop_reason: Option<&str>, usage: &Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null, "usage": usage,
        })
    }

    pub(crate) fn stop_reason(&self) -> &'static str {
        match self.size.finish {
            Finish::Cap => "max_tokens",
            Finish::Filter => "refusal",
            Finish::Stop if self.tool.is_some() => "tool_use",
            Finish::Stop | Finish::Failure => "end_turn",
        }
    }

    /// The usage object: `input_tokens` leaves out what the cache had or got.
    fn usage(&self, output: u64) -> Value {
        let mut usage = self.running_usage(output);
        let (short, long) = match self.usage.cache_write_tokens {
            written if self.is_cached_long => (0, written),
            written => (written, 0),
        };
        if let Some(fields) = usage.as_object_mut() {
            let classes = json!({
                "ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long,
            });
            fields.insert("cache_creation".to_owned(), classes);
            fields.insert("service_tier".to_owned(), json!("standard"));
        }
        usage
    }

    /// The usage so far, as `message_delta` reports it.
    pub(crate) fn running_usage(&self, output: u64) -> Value {
        let (read, written) = (self.usage.cached_tokens, self.usage.cache_write_tokens);
        let input = self.usage.prompt_tokens.saturating_sub(read + written);
        let mut usage = json!({
            "input_tokens": input, "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read, "output_tokens": output,
        });
        let thinking = self.usage.reasoning_tokens.min(output);
        if let Some(fields) = usage.as_object_mut().filter(|_| thinking > 0) {
            let details = json!({"thinking_tokens": thinking});
            fields.insert("output_tokens_details".to_owned(), details);
        }
        usage
    }
}
