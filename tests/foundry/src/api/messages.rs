//! Anthropic's Messages API, as Foundry serves it to Claude.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    body::Object,
    call::{Call, Job, Reply},
    deployment::{Deployment, Finish, Size},
    errors::Failure,
    family::Work,
    filter::{self, Filtered},
    foundry::Foundry,
    measure::{Measure, TOKENS_FOR_REPLY, TOKENS_PER_MESSAGE},
    tool_call,
};

mod events;
mod message;

use message::{Message, Tool};

/// `POST v1/messages`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let (body, deployment, prompt) = read(call)?;
    let cap = body.number("max_tokens", 1, u64::MAX)?;
    let cap = Some(cap.ok_or_else(|| required("max_tokens"))?);
    check_hosting(&body)?;
    let foundry = call.foundry;
    let whole = foundry.answer.tokens();
    let cost = deployment.cost(prompt.measure.estimate(), whole, cap, 1);
    let read = deployment.input(prompt.tokens);
    let size = refusal(call, deployment.size(whole, cap));
    let mut usage = read;
    usage += deployment.output(size, 1);
    let message = Message {
        id: foundry.object_id("msg"),
        model: deployment.model.clone(),
        answer: Arc::clone(&foundry.answer),
        size,
        usage,
        is_cached_long: mentions(&body.or("messages", json!([])), "ttl", "1h"),
        tool: tool(&body, foundry),
    };
    let stream = body.flag("stream")?.unwrap_or(false);
    let reply = move || {
        if stream {
            Reply::Events(Box::new(events::script(&message)))
        } else {
            Reply::produced(message.object().to_string(), usage)
        }
    };
    Ok(Job {
        cost: Some(cost),
        input: Some(read),
        deferred: false,
        members: body.members(),
        reply: Box::new(reply),
    })
}

/// Claude refuses in an answer: `stop_reason` is `refusal`, with or without a beginning of it (Handling stop
/// reasons).
fn refusal(call: &Call<'_>, size: Size) -> Size {
    match filter::judge(call.body) {
        None => size,
        Some(Filtered::Completion) => size.half(Finish::Filter),
        Some(Filtered::Prompt) => Size {
            visible: 0,
            reasoning: 0,
            finish: Finish::Filter,
        },
    }
}

/// `POST v1/messages/count_tokens`
pub(crate) fn count_tokens(call: &Call<'_>) -> Result<Job, Failure> {
    let (_, _, prompt) = read(call)?;
    let count = json!({"input_tokens": prompt.tokens});
    Ok(Job::free(move || Reply::json(count.to_string())))
}

/// What the model reads.
struct Prompt {
    measure: Measure,
    tokens: u64,
}

/// What both operations have in common.
fn read(call: &Call<'_>) -> Result<(Object, Arc<Deployment>, Prompt), Failure> {
    if !call.headers.contains_key("anthropic-version") {
        let message = "anthropic-version: header is required";
        return Err(Failure::invalid(message, None, None));
    }
    let body = Object::read(call.body)?;
    let model = body.text("model")?.ok_or_else(|| required("model"))?;
    let deployment = call.deployment(model, Work::Messages)?;
    let prompt = prompt(&body)?;
    Ok((body, deployment, prompt))
}

fn prompt(body: &Object) -> Result<Prompt, Failure> {
    let messages = body
        .array("messages")?
        .ok_or_else(|| required("messages"))?;
    if messages.is_empty() {
        let message = "messages: at least one message is required";
        return Err(Failure::invalid(message, None, None));
    }
    let mut prompt = Prompt {
        measure: Measure::default(),
        tokens: TOKENS_FOR_REPLY,
    };
    for (index, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str);
        if !matches!(role, Some("user" | "assistant" | "system")) {
            let message = format!("messages.{index}.role: Input should be 'user' or 'assistant'");
            return Err(Failure::invalid(&message, None, None));
        }
        prompt.add(message.get("content"));
    }
    if let Some(system) = body.get("system") {
        prompt.add(Some(system));
    }
    Ok(prompt)
}

impl Prompt {
    fn add(&mut self, content: Option<&Value>) {
        let size = content.map(Measure::of).unwrap_or_default();
        self.measure.add(size);
        self.tokens += TOKENS_PER_MESSAGE + size.tokens();
    }
}

fn required(field: &str) -> Failure {
    Failure::invalid(&format!("{field}: Field required"), None, None)
}

/// Deployments that Azure hosts know neither the MCP connector, nor containers, nor Anthropic's own tools
/// (Claude in Microsoft Foundry, features).
fn check_hosting(body: &Object) -> Result<(), Failure> {
    let refusal = |what: &str| {
        let message = format!("{what}: not supported for this deployment");
        Err(Failure::invalid(&message, None, None))
    };
    for field in ["mcp_servers", "container"] {
        if body.get(field).is_some() {
            return refusal(field);
        }
    }
    const SERVER_TOOLS: [&str; 3] = ["web_search", "web_fetch", "code_execution"];
    let tools = body.array("tools")?.map(Vec::as_slice).unwrap_or_default();
    let mut kinds = tools.iter().filter_map(|tool| tool.get("type")?.as_str());
    let is_server = |kind: &&str| SERVER_TOOLS.iter().any(|name| kind.starts_with(name));
    kinds.find(is_server).map_or(Ok(()), refusal)
}

/// Whether a field has that value anywhere in a body.
fn mentions(value: &Value, field: &str, wanted: &str) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            (name == field && value == wanted) || mentions(value, field, wanted)
        }),
        Value::Array(values) => values.iter().any(|value| mentions(value, field, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The tool that the model uses, instead of a text.
fn tool(body: &Object, foundry: &Foundry) -> Option<Tool> {
    let asked = tool_call::due(body.get("messages"), body.get("tools"));
    let name = match &asked {
        Some(call) => call.name.clone(),
        None => chosen(body)?,
    };
    Some(Tool {
        id: foundry.object_id("toolu"),
        name,
        asked,
    })
}

/// The tool that the caller makes the model use: the one it names, or the first if any must be used.
fn chosen(body: &Object) -> Option<String> {
    let choice = body.get("tool_choice")?;
    let name = match choice.get("type")?.as_str()? {
        "tool" => choice.get("name")?,
        "any" => body.get("tools")?.as_array()?.first()?.get("name")?,
        _ => return None,
    };
    name.as_str().map(str::to_owned)
}
