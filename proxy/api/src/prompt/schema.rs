//! What tools and JSON schemas become in the prompt: declarations in the manner of TypeScript for
//! functions, compact JSON for a format.
//!
//! Neither form is published; both were found by comparing with `usage`: the one of functions by
//! openai-chat-tokens (Harry Marr), the one of formats here. Keywords of functions that have no rule
//! there are counted as their JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::tally::{self, Tally};

/// Around all functions.
const FUNCTIONS: u64 = 9;
/// Of those, what an existing system message has already.
const SYSTEM: u64 = 4;
/// Deeper schemas are `any`: `OpenAI` takes ten levels.
const MAX_DEPTH: usize = 16;
/// Levels that are indented: however wide, a margin is one token.
const WIDEST: usize = 8;

#[derive(Deserialize)]
pub(super) struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

/// A format for the answer.
#[derive(Deserialize)]
pub(super) struct Format {
    name: Option<String>,
    description: Option<String>,
    schema: Option<Value>,
}

/// Reads a part of a body that holds schemas; `None` if it is too much text for one request, since a
/// tree takes many times the room of its JSON.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue, tally: &mut Tally) -> Option<T> {
    tally.text_left = tally.text_left.checked_sub(raw.get().len())?;
    tally::read(raw)
}

/// Counts the functions that a model may call.
pub(super) fn functions(functions: &[Function], has_system: bool, tally: &mut Tally) -> Option<()> {
    if functions.is_empty() {
        return Some(());
    }
    tally.add(FUNCTIONS - if has_system { SYSTEM } else { 0 });
    tally.text("namespace functions {\n\n")?;
    for function in functions {
        tally.text(&declaration(function))?;
    }
    tally.text("} // namespace functions")
}

/// Counts the format that the answer must have.
pub(super) fn format(mut format: Format, tally: &mut Tally) -> Option<()> {
    tally.text("# Response Formats\n\n## ")?;
    tally.text(format.name.as_deref().unwrap_or_default())?;
    if let Some(description) = &format.description {
        tally.text("\n\n// ")?;
        tally.text(description)?;
    }
    tally.text("\n")?;
    match &mut format.schema {
        Some(schema) => {
            shorten(schema);
            tally.text(&schema.to_string())
        }
        None => Some(()),
    }
}

/// Removes what is enforced but not shown to the model: `usage` does not grow by it. No deeper than the parser
/// goes, which is 128 levels.
fn shorten(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("additionalProperties");
            fields.remove("required");
            for (keyword, value) in fields {
                match (keyword.as_str(), value) {
                    // Names that the client chose, each with a schema.
                    ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                        named.values_mut().for_each(shorten);
                    }
                    (_, value) => shorten(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn declaration(function: &Function) -> String {
    let mut text = String::new();
    let name = &function.name;
    comment(function.description.as_deref(), &mut text);
    let fields = function.parameters.as_ref().and_then(properties);
    match fields {
        Some(fields) if !fields.is_empty() => {
            append(&mut text, format_args!("type {name} = (_: {{\n"));
            members(function.parameters.as_ref(), fields, 0, &mut text);
            text.push_str("\n}) => any;\n\n");
        }
        Some(_) | None => append(&mut text, format_args!("type {name} = () => any;\n\n")),
    }
    for keyword in ["$defs", "definitions"] {
        if let Some(defined) = function
            .parameters
            .as_ref()
            .and_then(|all| all.get(keyword))
        {
            append(&mut text, format_args!("{defined}\n"));
        }
    }
    text
}

fn append(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing into a `String` can't fail.
    let _infallible = text.write_fmt(part);
}

/// Writes a description on a line of its own, if there is one.
fn comment(description: Option<&str>, text: &mut String) -> bool {
    let description = description.unwrap_or_default();
    if !description.is_empty() {
        append(text, format_args!("// {description}\n"));
    }
    !description.is_empty()
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn members(schema: Option<&Value>, fields: &Map<String, Value>, depth: usize, text: &mut String) {
    let required: BTreeSet<&str> = schema
        .and_then(|all| all.get("required")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let margin = "  ".repeat(depth.min(WIDEST));
    for (index, (name, field)) in fields.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&margin);
        if comment(field.get("description").and_then(Value::as_str), text) {
            text.push_str(&margin);
        }
        let optional = if required.contains(name.as_str()) {
            ""
        } else {
            "?"
        };
        append(text, format_args!("{name}{optional}: "));
        kind(field, depth, text);
        text.push(',');
        remark(field, text);
    }
}

/// Keywords that say more than the type does.
fn remark(field: &Value, text: &mut String) {
    const SAID: [&str; 13] = [
        "type",
        "description",
        "enum",
        "const",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "anyOf",
        "oneOf",
        "allOf",
        "title",
        "$ref",
    ];
    let Some(field) = field.as_object() else {
        return;
    };
    for (keyword, value) in field {
        if !SAID.contains(&keyword.as_str()) {
            append(text, format_args!(" // {keyword}: {value}"));
        }
    }
}

fn kind(field: &Value, depth: usize, text: &mut String) {
    if depth > MAX_DEPTH {
        return text.push_str("any");
    }
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        return alternatives(values, text, |value, text| {
            append(text, format_args!("{value}"))
        });
    }
    if let Some(value) = field.get("const") {
        return append(text, format_args!("{value}"));
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        if let Some(values) = field.get(keyword).and_then(Value::as_array) {
            return alternatives(values, text, |value, text| kind(value, depth + 1, text));
        }
    }
    if let Some(name) = field.get("$ref").and_then(Value::as_str) {
        return text.push_str(name.rsplit('/').next().unwrap_or_default());
    }
    match field.get("type") {
        Some(Value::String(name)) => named(name, field, depth, text),
        Some(Value::Array(names)) => {
            // Each once: repeating `object` would repeat all that is below it, at each depth.
            let names: BTreeSet<&str> = names.iter().filter_map(Value::as_str).collect();
            alternatives(names, text, |name, text| named(name, field, depth, text));
        }
        _ if field.get("properties").is_some() => named("object", field, depth, text),
        _ => text.push_str("any"),
    }
}

fn alternatives<T>(
    values: impl IntoIterator<Item = T>,
    text: &mut String,
    one: impl Fn(T, &mut String),
) {
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            text.push_str(" | ");
        }
        one(value, text);
    }
}

fn named(name: &str, field: &Value, depth: usize, text: &mut String) {
    match name {
        "integer" => text.push_str("number"),
        "object" => match properties(field) {
            Some(fields) => {
                text.push_str("{\n");
                members(Some(field), fields, depth + 1, text);
                text.push_str("\n}");
            }
            None => text.push_str("object"),
        },
        "array" => {
            match field.get("items") {
                Some(items) => kind(items, depth + 1, text),
                None => text.push_str("any"),
            }
            text.push_str("[]");
        }
        other => text.push_str(other),
    }
}
