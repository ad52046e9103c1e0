//! `POST .../chat/completions`: messages, the parts of their content, tools and schemas.
//!
//! The numbers are those of `OpenAI`'s cookbook, "How to count tokens with Tiktoken" (messages),
//! and of openai-chat-tokens (tool calls), both found by comparing with `usage`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::image;
use super::media::{audio, document};
use super::schema::{self, Format, Function};
use super::tally::{Shape, Tally, read};

/// Around each message.
pub(super) const MESSAGE: u64 = 3;
/// Before the answer.
pub(super) const REPLY: u64 = 3;
/// Before the name of a speaker.
const NAME: u64 = 1;
/// Around a call in the history, beside its name and arguments.
pub(super) const CALL: u64 = 3;
/// Around each of several calls at once, as well.
const PARALLEL: u64 = 7;
/// Around the result of a call, its name included.
pub(super) const RESULT: u64 = 5;
/// Naming the tool that must be called, beside its name.
const CHOICE: u64 = 4;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    functions: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    name: Option<String>,
    refusal: Option<String>,
    #[serde(borrow)]
    tool_calls: Option<Vec<&'a RawValue>>,
    function_call: Option<Call>,
}

#[derive(Deserialize)]
struct ToolCall {
    function: Option<Call>,
    custom: Option<CustomCall>,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct CustomCall {
    name: String,
    input: String,
}

#[derive(Deserialize)]
struct Tool {
    function: Option<Function>,
}

#[derive(Deserialize)]
struct ResponseFormat {
    json_schema: Option<Format>,
}

#[derive(Deserialize)]
struct Choice {
    name: Option<String>,
    function: Option<ChosenFunction>,
}

#[derive(Deserialize)]
struct ChosenFunction {
    name: String,
}

pub(super) fn count(body: &str, tally: &mut Tally) -> Option<()> {
    let request: Request<'_> = serde_json::from_str(body).ok()?;
    tally.add(REPLY);
    let mut has_system = false;
    for raw in request.messages {
        if tally.is_over() {
            return Some(());
        }
        let message: Message<'_> = read(raw)?;
        has_system |= matches!(message.role.as_ref(), "system" | "developer");
        one(&message, tally)?;
    }
    let mut functions = Vec::new();
    for raw in request.functions.unwrap_or_default() {
        functions.push(schema::read::<Function>(raw, tally)?);
    }
    for raw in request.tools.unwrap_or_default() {
        match schema::read::<Tool>(raw, tally)?.function {
            Some(function) => functions.push(function),
            // A custom tool: its grammar is part of the prompt.
            None => tally.text(raw.get())?,
        }
    }
    schema::functions(&functions, has_system, tally)?;
    if let Some(raw) = request.response_format
        && let Some(format) = schema::read::<ResponseFormat>(raw, tally)?.json_schema
    {
        schema::format(format, tally)?;
    }
    for raw in [request.tool_choice, request.function_call] {
        choice(raw, tally)?;
    }
    Some(())
}

fn one(message: &Message<'_>, tally: &mut Tally) -> Option<()> {
    tally.add(MESSAGE);
    tally.text(&message.role)?;
    if let Some(raw) = message.content {
        content(raw, tally)?;
    }
    if let Some(name) = &message.name {
        tally.add(NAME);
        tally.text(name)?;
    }
    if let Some(refusal) = &message.refusal {
        tally.text(refusal)?;
    }
    if message.role == "tool" {
        tally.add(RESULT);
    }
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    for raw in calls {
        if calls.len() > 1 {
            tally.add(PARALLEL);
        }
        if tally.is_over() {
            break;
        }
        let made: ToolCall = read(raw)?;
        match (made.function, made.custom) {
            (Some(made), _) => call(&made.name, &made.arguments, tally)?,
            (None, Some(made)) => call(&made.name, &made.input, tally)?,
            (None, None) => return None,
        }
    }
    if let Some(made) = &message.function_call {
        call(&made.name, &made.arguments, tally)?;
    }
    Some(())
}

/// A call in the history.
pub(super) fn call(name: &str, arguments: &str, tally: &mut Tally) -> Option<()> {
    tally.add(CALL);
    tally.text(name)?;
    tally.text(arguments)
}

fn choice(raw: Option<&RawValue>, tally: &mut Tally) -> Option<()> {
    let Some(raw) = raw else { return Some(()) };
    match Shape::of(raw)? {
        Shape::Text(word) if word == "none" => tally.add(1),
        Shape::Object => {
            let chosen: Choice = read(raw)?;
            let name = chosen.function.map(|function| function.name);
            if let Some(name) = name.or(chosen.name) {
                tally.add(CHOICE);
                tally.text(&name)?;
            }
        }
        Shape::Text(_) | Shape::Null | Shape::List(_) => {}
    }
    Some(())
}

/// The content of a message: a text or parts, in the words of either API.
pub(super) fn content(raw: &RawValue, tally: &mut Tally) -> Option<()> {
    match Shape::of(raw)? {
        Shape::Null => Some(()),
        Shape::Text(text) => tally.text(&text),
        Shape::List(parts) => {
            for part in parts {
                if tally.is_over() {
                    break;
                }
                content_part(part, tally)?;
            }
            Some(())
        }
        Shape::Object => None,
    }
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    detail: Option<String>,
    #[serde(borrow)]
    input_audio: Option<Audio<'a>>,
    #[serde(borrow)]
    file: Option<File<'a>>,
    #[serde(borrow)]
    file_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ImageUrl<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    file_data: Option<&'a RawValue>,
}

fn content_part(raw: &RawValue, tally: &mut Tally) -> Option<()> {
    let part: Part<'_> = read(raw)?;
    match part.kind.as_ref() {
        "text" | "input_text" | "output_text" => content(part.text?, tally),
        "refusal" => content(part.refusal?, tally),
        "image_url" | "input_image" => {
            let tokens = picture(&part, tally)?;
            tally.add(tokens);
            Some(())
        }
        "input_audio" => {
            tally.add(audio(part.input_audio?.data.len()));
            Some(())
        }
        "file" | "input_file" => {
            let data = part.file.and_then(|file| file.file_data);
            let data = data.or(part.file_data).map(RawValue::get);
            let data = data.unwrap_or_default().trim_matches('"');
            tally.add(document(data, tally.vision));
            Some(())
        }
        _ => None,
    }
}

fn picture(part: &Part<'_>, tally: &Tally) -> Option<u64> {
    let detail = part.detail.as_deref();
    let Some(raw) = part.image_url else {
        // An uploaded file.
        return Some(tally.vision.tokens(None, detail));
    };
    match Shape::of(raw)? {
        Shape::Text(url) => Some(tally.vision.tokens(image::size(&url), detail)),
        Shape::Object => {
            let image: ImageUrl<'_> = read(raw)?;
            let detail = image.detail.as_deref().or(detail);
            Some(tally.vision.tokens(image::size(&image.url), detail))
        }
        Shape::Null | Shape::List(_) => None,
    }
}

/// What no rule is published for, at four bytes a token.
pub(super) fn quarter(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX).div_ceil(4)
}
