//! The text that every model here answers, and the JSON around it.
//!
//! The text is a fixed sentence, repeated; one word is one token, so that a test can count.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{deployment::Finish, record::Usage, tool_call::ToolCall};

const SENTENCE: [&str; 28] = [
    "A", "tundish", "is", "the", "vessel", "between", "the", "ladle", "and", "the", "moulds", "of",
    "a", "foundry:", "it", "takes", "one", "stream,", "calms", "it,", "meters", "it", "and",
    "splits", "it", "over", "several", "moulds.",
];

pub(crate) const SAFE: &str = r#"{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}"#;

/// What stands in the place of [`SAFE`] where the filter ended an answer.
pub(crate) const FILTERED: &str = r#"{"hate":{"filtered":true,"severity":"high"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}"#;

pub(crate) const PROMPT_FILTER: &str = r#"[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"jailbreak":{"detected":false,"filtered":false},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}}]"#;

/// Padding of deltas that hides a token's length from who can see only sizes.
pub(crate) const PADDING: &str = "Q7hT2xVbK9mZcW4s";

/// The longest answer, with the place where each of its tokens ends. It needs no JSON escapes.
#[derive(Debug)]
pub(crate) struct Answer {
    text: String,
    ends: Vec<usize>,
}

impl Answer {
    pub(crate) fn new(tokens: u32) -> Self {
        let mut answer = Self {
            text: String::new(),
            ends: Vec::new(),
        };
        for (_, word) in (0..tokens).zip(SENTENCE.iter().cycle()) {
            if !answer.text.is_empty() {
                answer.text.push(' ');
            }
            answer.text.push_str(word);
            answer.ends.push(answer.text.len());
        }
        answer
    }

    /// Tokens of the longest answer.
    pub(crate) fn tokens(&self) -> u64 {
        u64::try_from(self.ends.len()).unwrap_or(u64::MAX)
    }

    /// The first `tokens` tokens.
    pub(crate) fn text(&self, tokens: u64) -> &str {
        self.text.get(..self.end(tokens)).unwrap_or_default()
    }

    /// Token number `index`, counted from 0, with the space before it.
    pub(crate) fn token(&self, index: u64) -> &str {
        self.text
            .get(self.end(index)..self.end(index + 1))
            .unwrap_or_default()
    }

    /// The first `tokens` tokens, one by one.
    pub(crate) fn pieces(&self, tokens: u64) -> Vec<String> {
        let pieces = (0..tokens).map(|index| self.token(index).to_owned());
        pieces.collect()
    }

    fn end(&self, tokens: u64) -> usize {
        let last = usize::try_from(tokens)
            .ok()
            .and_then(|tokens| tokens.checked_sub(1));
        last.map_or(0, |last| {
            self.ends.get(last).copied().unwrap_or(self.text.len())
        })
    }
}

/// Makes a text, by token, the argument of a call. A call that was cut is no JSON.
pub(crate) fn as_argument(pieces: &mut [String], is_whole: bool) {
    if let Some(first) = pieces.first_mut() {
        first.insert_str(0, "{\"text\":\"");
    }
    if let Some(last) = pieces.last_mut().filter(|_| is_whole) {
        last.push_str("\"}");
    }
}

/// What an answer says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: u64,
    pub(crate) created: u64,
    pub(crate) model: String,
    /// Tokens of each choice.
    pub(crate) tokens: u64,
    pub(crate) choices: u64,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    /// The tool that is called, instead of a text.
    pub(crate) tool: Option<ToolCall>,
    /// The ids of what is spoken, one for each choice; empty if nothing is.
    pub(crate) spoken: Vec<String>,
}

impl Facts {
    /// OpenAI's word for how a choice ends.
    pub(crate) fn reason(&self) -> &'static str {
        if self.tool.is_some() && self.finish == Finish::Stop {
            "tool_calls"
        } else {
            self.finish.reason()
        }
    }

    /// What is spoken of a choice, by its sound and its text. It is kept for an hour.
    pub(crate) fn spoken(&self, choice: u64, (sound, text): (&str, &str)) -> Option<Value> {
        let id = self.spoken.get(usize::try_from(choice).ok()?)?;
        let expires = self.created + 3_600;
        Some(json!({"id": id, "data": sound, "transcript": text, "expires_at": expires}))
    }

    /// The call of a tool, as a message has it.
    pub(crate) fn called(&self, tool: &ToolCall, arguments: &str) -> Value {
        let function = json!({"name": tool.name, "arguments": arguments});
        json!({"id": format!("call_{:016x}", self.id), "type": "function", "function": function})
    }
}

/// The filter's annotation of an answer that ends so.
pub(crate) fn filter(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Cap | Finish::Failure => SAFE,
        Finish::Filter => FILTERED,
    }
}

/// A whole chat completion, keys in Azure's order.
pub(crate) fn completion(answer: &Answer, facts: &Facts) -> String {
    let text = answer.text(facts.tokens);
    let mut json = String::with_capacity(1280 + text.len());
    json.push_str(r#"{"choices":["#);
    for index in 0..facts.choices {
        if index > 0 {
            json.push(',');
        }
        json.push_str(r#"{"content_filter_results":"#);
        json.push_str(filter(facts.finish));
        put(
            &mut json,
            format_args!(r#","finish_reason":"{}","index":{index}"#, facts.reason()),
        );
        json.push_str(r#","logprobs":null,"message":{"annotations":[],"content":"#);
        match &facts.tool {
            Some(tool) => {
                let call = facts.called(tool, &tool.arguments);
                put(&mut json, format_args!(r#"null,"tool_calls":[{call}]"#));
            }
            None if !facts.spoken.is_empty() => {
                let spoken = facts.spoken(index, ("UklGRg==", text)).unwrap_or_default();
                put(&mut json, format_args!(r#"null,"audio":{spoken}"#));
            }
            None => put(&mut json, format_args!(r#""{text}""#)),
        }
        json.push_str(r#","refusal":null,"role":"assistant"}}"#);
    }
    put(
        &mut json,
        format_args!(r#"],"created":{},"id":"chatcmpl-"#, facts.created),
    );
    put(&mut json, format_args!("{:016x}", facts.id));
    json.push_str(r#"","model":""#);
    json.push_str(&facts.model);
    json.push_str(r#"","object":"chat.completion","prompt_filter_results":"#);
    json.push_str(PROMPT_FILTER);
    json.push_str(r#","system_fingerprint":"fp_5d58a6052a","usage":"#);
    put_usage(&mut json, facts.usage);
    json.push('}');
    json
}

/// The usage object, details included.
pub(crate) fn put_usage(json: &mut String, usage: Usage) {
    let Usage {
        prompt_tokens: prompt,
        completion_tokens: completion,
        cached_tokens: cached,
        cache_write_tokens: written,
        reasoning_tokens: reasoning,
        audio_tokens: audio,
        ..
    } = usage;
    put(json, format_args!(r#"{{"completion_tokens":{completion}"#));
    put(
        json,
        format_args!(
            r#","completion_tokens_details":{{"accepted_prediction_tokens":0,"audio_tokens":{audio},"reasoning_tokens":{reasoning},"rejected_prediction_tokens":0}}"#
        ),
    );
    put(json, format_args!(r#","prompt_tokens":{prompt}"#));
    json.push_str(r#","prompt_tokens_details":{"audio_tokens":0"#);
    // Only models that bill writes to the cache tell them.
    if written > 0 {
        put(json, format_args!(r#","cache_write_tokens":{written}"#));
    }
    put(json, format_args!(r#","cached_tokens":{cached}}}"#));
    put(json, format_args!(r#","total_tokens":{}}}"#, usage.total()));
}

/// Appends formatted text.
pub(crate) fn put(json: &mut String, text: std::fmt::Arguments<'_>) {
    json.write_fmt(text).expect("a String takes everything");
}
