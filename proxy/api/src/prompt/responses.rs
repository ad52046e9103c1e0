//! `POST .../responses`: the items of the input, instructions, tools and the format of the answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::chat;
use super::schema::{self, Format, Function};
use super::tally::{Shape, Tally, read};

/// Longest item of a kind without a rule that is counted as the JSON it is: a search that was made
/// has 200 bytes, a screenshot 100 KB.
const UNKNOWN_ITEM: usize = 4 << 10;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    instructions: Option<String>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    text: Option<TextOptions<'a>>,
    // What the backend keeps, and the gateway can't see.
    previous_response_id: Option<IgnoredAny>,
    conversation: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct TextOptions<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    #[serde(alias = "input")]
    arguments: String,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    output: &'a RawValue,
}

#[derive(Deserialize)]
struct Reasoning<'a> {
    #[serde(borrow)]
    encrypted_content: Option<&'a RawValue>,
}

pub(super) fn count(body: &str, tally: &mut Tally) -> Option<()> {
    let request: Request<'_> = serde_json::from_str(body).ok()?;
    let kept = [
        &request.previous_response_id,
        &request.conversation,
        &request.prompt,
    ];
    if kept.iter().any(|part| part.is_some()) {
        return None;
    }
    tally.add(chat::REPLY);
    let instructions = request.instructions.unwrap_or_default();
    let mut has_system = !instructions.is_empty();
    if has_system {
        tally.add(chat::MESSAGE);
        tally.text("system")?;
        tally.text(&instructions)?;
    }
    match Shape::of(request.input?)? {
        Shape::Text(text) => {
            tally.add(chat::MESSAGE);
            tally.text("user")?;
            tally.text(&text)?;
        }
        Shape::List(items) => {
            for raw in items {
                if tally.is_over() {
                    return Some(());
                }
                has_system |= item(raw, tally)?;
            }
        }
        Shape::Null | Shape::Object => return None,
    }
    let mut functions = Vec::new();
    for raw in request.tools.unwrap_or_default() {
        match read::<Kind<'_>>(raw)?.kind.as_ref() {
            "function" => functions.push(schema::read::<Function>(raw, tally)?),
            // What a hosted tool adds is not published; its settings are in the prompt at least.
            _ => tally.text(raw.get())?,
        }
    }
    schema::functions(&functions, has_system, tally)?;
    if let Some(raw) = request.text.and_then(|text| text.format)
        && read::<Kind<'_>>(raw)?.kind == "json_schema"
    {
        schema::format(schema::read::<Format>(raw, tally)?, tally)?;
    }
    Some(())
}

/// Counts one item; true if it is an instruction.
fn item(raw: &RawValue, tally: &mut Tally) -> Option<bool> {
    match read::<Kind<'_>>(raw)?.kind.as_ref() {
        "" | "message" => {
            let message: Message<'_> = read(raw)?;
            tally.add(chat::MESSAGE);
            tally.text(&message.role)?;
            chat::content(message.content, tally)?;
            return Some(matches!(message.role.as_ref(), "system" | "developer"));
        }
        "function_call" | "custom_tool_call" => {
            let call: Call = read(raw)?;
            tally.add(chat::MESSAGE);
            chat::call(&call.name, &call.arguments, tally)?;
        }
        "function_call_output" | "custom_tool_call_output" => {
            let output: Output<'_> = read(raw)?;
            tally.add(chat::MESSAGE + chat::RESULT);
            chat::content(output.output, tally)?;
        }
        "reasoning" => {
            let reasoning: Reasoning<'_> = read(raw)?;
            let hidden = reasoning.encrypted_content.map_or("", RawValue::get);
            tally.add(chat::quarter(hidden));
        }
        "item_reference" => return None,
        _ if raw.get().len() > UNKNOWN_ITEM => return None,
        _ => tally.text(raw.get())?,
    }
    Some(false)
}
