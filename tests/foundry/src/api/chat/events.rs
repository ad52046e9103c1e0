//! The chunks of a stream, in Azure's order.
//!
//! The prompt filter's odd chunk, one chunk with the role, one chunk per token, the async filter's
//! odd chunk, one chunk with the finish reason, the usage if asked for, `[DONE]`. With several
//! choices each step is repeated per choice.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::{
    answer::{self, FILTERED, Facts, PADDING, PROMPT_FILTER, SAFE, put},
    deployment::{Finish, Size},
    errors,
    foundry::Foundry,
    record::Usage,
    sse::{self, Chunk, Next},
};

/// The chunks of one stream, made as they are asked for.
#[derive(Debug)]
pub(crate) struct Events {
    foundry: Arc<Foundry>,
    facts: Facts,
    size: Size,
    include_usage: bool,
    obfuscate: bool,
    /// The arguments of the tool that is called, by token.
    arguments: Vec<String>,
    /// What follows the choices in every chunk, up to the obfuscation and after it.
    middle: String,
    tail: &'static str,
    next: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    PromptFilter,
    Role { choice: u64 },
    Token { index: u64, choice: u64 },
    AsyncFilter { choice: u64 },
    Finish { choice: u64 },
    Usage,
    Done,
    End,
}

impl Events {
    pub(crate) fn new(
        foundry: Arc<Foundry>,
        facts: Facts,
        size: Size,
        include_usage: bool,
        obfuscate: bool,
    ) -> Self {
        let middle = format!(
            r#"],"created":{},"id":"chatcmpl-{:016x}","model":"{}""#,
            facts.created, facts.id, facts.model
        );
        let tail = if include_usage {
            concat!(
                r#","object":"chat.completion.chunk","system_fingerprint":"fp_5d58a6052a""#,
                ",\"usage\":null}\n\n"
            )
        } else {
            concat!(
                r#","object":"chat.completion.chunk","system_fingerprint":"fp_5d58a6052a""#,
                "}\n\n"
            )
        };
        let next = Step::PromptFilter;
        let tool = facts.tool.as_ref();
        let arguments = tool.map(|tool| tool.pieces(facts.tokens));
        Self {
            foundry,
            arguments: arguments.unwrap_or_default(),
            facts,
            size,
            include_usage,
            obfuscate,
            middle,
            tail,
            next,
        }
    }

    /// Each step for all choices, then the next one.
    fn after(&self, step: Step) -> Step {
        let Facts {
            tokens, choices, ..
        } = self.facts;
        match step {
            Step::PromptFilter => Step::Role { choice: 0 },
            Step::Role { choice } if choice + 1 < choices => Step::Role { choice: choice + 1 },
            Step::Role { .. } if tokens == 0 => Step::AsyncFilter { choice: 0 },
            Step::Role { .. } => Step::Token {
                index: 0,
                choice: 0,
            },
            Step::Token { index, choice } if choice + 1 < choices => Step::Token {
                index,
                choice: choice + 1,
            },
            Step::Token { index, .. } if index + 1 < tokens => Step::Token {
                index: index + 1,
                choice: 0,
            },
            Step::Token { .. } => Step::AsyncFilter { choice: 0 },
            Step::AsyncFilter { choice } if choice + 1 < choices => {
                Step::AsyncFilter { choice: choice + 1 }
            }
            Step::AsyncFilter { .. } => Step::Finish { choice: 0 },
            Step::Finish { choice } if choice + 1 < choices => Step::Finish { choice: choice + 1 },
            Step::Finish { .. } if self.include_usage => Step::Usage,
            Step::Finish { .. } | Step::Usage => Step::Done,
            Step::Done | Step::End => Step::End,
        }
    }

    /// What the model produced for a step. Reasoning comes before the first chunk of its choice.
    fn made(&self, step: Step) -> Usage {
        match step {
            Step::Role { .. } => Usage {
                completion_tokens: self.size.reasoning,
                reasoning_tokens: self.size.reasoning,
                ..Usage::default()
            },
            Step::Token { index, .. } => {
                let audio = self.facts.usage.audio_tokens / self.facts.choices.max(1);
                Usage {
                    completion_tokens: 1,
                    audio_tokens: u64::from(index < audio),
                    ..Usage::default()
                }
            }
            Step::PromptFilter
            | Step::AsyncFilter { .. }
            | Step::Finish { .. }
            | Step::Usage
            | Step::Done
            | Step::End => Usage::default(),
        }
    }

    fn chunk(
        &self,
        filter: &str,
        delta: std::fmt::Arguments<'_>,
        finish: Option<&str>,
        choice: u64,
    ) -> String {
        let mut event = String::with_capacity(640);
        event.push_str(r#"data: {"choices":[{"content_filter_results":"#);
        event.push_str(filter);
        event.push_str(r#","delta":"#);
        let before = event.len();
        put(&mut event, delta);
        let length = event.len() - before;
        match finish {
            Some(reason) => put(&mut event, format_args!(r#","finish_reason":"{reason}""#)),
            None => event.push_str(r#","finish_reason":null"#),
        }
        put(
            &mut event,
            format_args!(r#","index":{choice},"logprobs":null}}"#),
        );
        event.push_str(&self.middle);
        if self.obfuscate {
            let pad = PADDING.get(length % PADDING.len()..).unwrap_or_default();
            put(&mut event, format_args!(r#","obfuscation":"{pad}""#));
        }
        event.push_str(self.tail);
        event
    }

    /// A choice without delta, in a chunk without id, object and model.
    fn async_filter(&self, choice: u64) -> String {
        let end = self.foundry.answer.text(self.facts.tokens).len();
        let mut event = String::with_capacity(512);
        put(
            &mut event,
            format_args!(
                r#"data: {{"choices":[{{"content_filter_offsets":{{"check_offset":{end},"start_offset":0,"end_offset":{end}}},"content_filter_results":{SAFE},"finish_reason":null,"index":{choice}}}],"created":0,"id":"","model":"","object":"""#
            ),
        );
        event.push_str(if self.include_usage {
            ",\"usage\":null}\n\n"
        } else {
            "}\n\n"
        });
        event
    }

    fn usage(&self) -> String {
        let mut event = String::with_capacity(512);
        event.push_str(r#"data: {"choices":["#);
        event.push_str(&self.middle);
        event.push_str(
            r#","object":"chat.completion.chunk","system_fingerprint":"fp_5d58a6052a","usage":"#,
        );
        answer::put_usage(&mut event, self.facts.usage);
        event.push_str("}\n\n");
        event
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl sse::Events for Events {
    fn upcoming(&self) -> Next {
        match self.next {
            Step::Token { .. } => Next::Token,
            Step::Done => Next::Done,
            Step::End => Next::End,
            Step::PromptFilter
            | Step::Role { .. }
            | Step::AsyncFilter { .. }
            | Step::Finish { .. }
            | Step::Usage => Next::Event,
        }
    }

    fn thoughts(&self) -> u64 {
        self.made(self.next).reasoning_tokens
    }

    fn next(&mut self) -> Option<Chunk> {
        let step = self.next;
        self.next = self.after(step);
        let event = match step {
            Step::PromptFilter => {
                let mut event = String::with_capacity(640);
                event
                    .push_str(r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","#);
                put(
                    &mut event,
                    format_args!("\"prompt_filter_results\":{PROMPT_FILTER}}}\n\n"),
                );
                event
            }
            Step::Role { choice } => match &self.facts.tool {
                Some(tool) => {
                    let mut call = self.facts.called(tool, "");
                    if let Some(fields) = call.as_object_mut() {
                        fields.insert("index".to_owned(), json!(0));
                    }
                    let delta = json!({"role": "assistant", "content": null, "tool_calls": [call]});
                    self.chunk("{}", format_args!("{delta}"), None, choice)
                }
                None => match self.facts.spoken(choice, ("", "")) {
                    Some(spoken) => {
                        let delta = json!({"role": "assistant", "content": null, "audio": spoken});
                        self.chunk("{}", format_args!("{delta}"), None, choice)
                    }
                    None => {
                        let delta = r#"{"content":"","refusal":null,"role":"assistant"}"#;
                        self.chunk("{}", format_args!("{delta}"), None, choice)
                    }
                },
            },
            Step::Token { index, choice } => match self.arguments.get(place(index)) {
                Some(piece) => {
                    let calls = json!([{"index": 0, "function": {"arguments": piece}}]);
                    let delta = format_args!(r#"{{"tool_calls":{calls}}}"#);
                    self.chunk("{}", delta, None, choice)
                }
                None => {
                    let token = self.foundry.answer.token(index);
                    let delta = format_args!(r#"{{"content":"{token}"}}"#);
                    self.chunk(SAFE, delta, None, choice)
                }
            },
            Step::AsyncFilter { choice } => self.async_filter(choice),
            Step::Finish { choice } => {
                let filter = match self.facts.finish {
                    Finish::Stop | Finish::Cap | Finish::Failure => "{}",
                    Finish::Filter => FILTERED,
                };
                let reason = self.facts.reason();
                self.chunk(filter, format_args!("{{}}"), Some(reason), choice)
            }
            Step::Usage => self.usage(),
            Step::Done => "data: [DONE]\n\n".to_owned(),
            Step::End => return None,
        };
        Some(Chunk {
            bytes: event.into(),
            made: self.made(step),
        })
    }

    fn end(&mut self) {
        self.next = Step::End;
    }

    fn error(&self) -> Bytes {
        Bytes::from(format!("data: {}\n\n", errors::server_error()))
    }
}
