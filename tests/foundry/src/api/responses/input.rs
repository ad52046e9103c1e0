//! The input of a response: normalised to items with ids, and measured.

use serde_json::{Map, Value, json};

use crate::{
    body::Object,
    call::Call,
    errors::Failure,
    measure::{Measure, TOKENS_FOR_REPLY, TOKENS_PER_MESSAGE},
    named_files,
};

/// What a request brings, and what the model reads with it.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The request's own items, oldest first.
    pub(crate) items: Vec<Value>,
    /// Size of the items and the instructions.
    pub(crate) measure: Measure,
    /// Tokens of everything that the model reads: history as well.
    pub(crate) tokens: u64,
}

impl Input {
    /// Reads `input`, `instructions`, and the history that `previous_response_id` or `conversation`
    /// names.
    pub(crate) fn read(call: &Call<'_>, body: &Object) -> Result<Self, Failure> {
        let items = items(call, body.get("input"))?;
        let mut tokens = TOKENS_FOR_REPLY;
        let mut measure = Measure::default();
        let mut add = |size: Measure| {
            tokens += TOKENS_PER_MESSAGE + size.tokens();
            measure.add(size);
        };
        items.iter().for_each(|item| add(Measure::item(item)));
        if let Some(instructions) = body.text("instructions")? {
            add(Measure::text(instructions));
        }
        let history = history(call, body)?;
        if items.is_empty() && history.is_none() && body.get("prompt").is_none() {
            let message = "One of \"input\" or \"previous_response_id\" or 'prompt' or \
                           'conversation_id' must be provided.";
            let code = Some("missing_required_parameter");
            return Err(Failure::invalid(message, Some("input"), code));
        }
        Ok(Self {
            items,
            measure,
            tokens: tokens + history.unwrap_or(0),
        })
    }
}

/// Tokens of what came before, if the request continues something.
fn history(call: &Call<'_>, body: &Object) -> Result<Option<u64>, Failure> {
    let previous = body.text("previous_response_id")?;
    let conversation = conversation_id(body)?;
    match (previous, conversation) {
        (Some(_), Some(_)) => {
            let message = "Mutually exclusive parameters: 'previous_response_id' and \
                           'conversation'. Ensure you are only providing one of them.";
            let code = Some("mutually_exclusive_parameters");
            Err(Failure::invalid(message, None, code))
        }
        (Some(id), None) => {
            let responses = call.foundry.responses.lock();
            let stored = responses.get(id, call.place.project);
            let usage = stored.map(|stored| stored.draft.usage).ok_or_else(|| {
                let message = format!("Previous response with id '{id}' not found.");
                let param = Some("previous_response_id");
                Failure::invalid(&message, param, Some("previous_response_not_found"))
            })?;
            Ok(Some(usage.total()))
        }
        (None, Some(id)) => {
            let conversations = call.foundry.conversations.lock();
            let conversation = conversations.get(id, call.place.project);
            let conversation =
                conversation.ok_or_else(|| Failure::unknown_id("Conversation", id))?;
            let tokens = |item| TOKENS_PER_MESSAGE + Measure::item(item).tokens();
            Ok(Some(conversation.items.iter().map(tokens).sum()))
        }
        (None, None) => Ok(None),
    }
}

/// `conversation`, as an id or as an object with one.
pub(crate) fn conversation_id(body: &Object) -> Result<Option<&str>, Failure> {
    match body.get("conversation") {
        Some(Value::Object(object)) => Ok(object.get("id").and_then(Value::as_str)),
        _ => body.text("conversation"),
    }
}

/// Items with ids: a text is one message of the user.
pub(crate) fn items(call: &Call<'_>, input: Option<&Value>) -> Result<Vec<Value>, Failure> {
    named_files::check(call)?;
    match input {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => {
            let message = json!({"role": "user", "content": text});
            Ok(vec![item(call, 0, &message)?])
        }
        Some(Value::Array(items)) => {
            let items = items.iter().enumerate();
            items.map(|(index, one)| item(call, index, one)).collect()
        }
        Some(_) => {
            let message = "Invalid type for 'input': expected a string or an array of objects.";
            Err(Failure::invalid(
                message,
                Some("input"),
                Some("invalid_type"),
            ))
        }
    }
}

/// One item as it is kept.
fn item(call: &Call<'_>, index: usize, item: &Value) -> Result<Value, Failure> {
    let wrong = || {
        let param = format!("input[{index}]");
        let message = format!("Invalid type for '{param}': expected an object.");
        Failure::invalid(&message, Some(&param), Some("invalid_type"))
    };
    let mut fields = item.as_object().cloned().ok_or_else(wrong)?;
    check_seal(call, &fields)?;
    let kind = match fields.get("type").and_then(Value::as_str) {
        Some("item_reference") => return referenced(call, &fields),
        Some(kind) => kind.to_owned(),
        None => "message".to_owned(),
    };
    let has_id = fields.get("id").is_some_and(Value::is_string);
    if !has_id {
        let id = call.foundry.object_id(prefix(&kind));
        fields.insert("id".to_owned(), json!(id));
    }
    if kind == "message" {
        normalise(&mut fields);
    }
    fields.insert("type".to_owned(), json!(kind));
    Ok(Value::Object(fields))
}

/// A message with a status, its content a list of parts.
fn normalise(fields: &mut Map<String, Value>) {
    fields.entry("status").or_insert(json!("completed"));
    let is_answer = fields.get("role").and_then(Value::as_str) == Some("assistant");
    if let Some(text) = fields.get("content").and_then(Value::as_str) {
        let part = if is_answer {
            json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
        } else {
            json!({"type": "input_text", "text": text})
        };
        fields.insert("content".to_owned(), json!([part]));
    }
}

/// Reasoning and compactions open only where they were sealed: on this resource.
fn check_seal(call: &Call<'_>, fields: &Map<String, Value>) -> Result<(), Failure> {
    let content = fields.get("encrypted_content").and_then(Value::as_str);
    if content.is_none_or(|content| call.foundry.has_sealed(content)) {
        return Ok(());
    }
    let id = fields.get("id").and_then(Value::as_str).unwrap_or_default();
    let message = format!(
        "The encrypted content for item {id} could not be verified. Reason: Encrypted content could \
         not be decrypted or parsed."
    );
    Err(Failure::invalid(
        &message,
        None,
        Some("invalid_encrypted_content"),
    ))
}

/// The item of an earlier response that this one names.
fn referenced(call: &Call<'_>, fields: &Map<String, Value>) -> Result<Value, Failure> {
    let id = fields.get("id").and_then(Value::as_str).unwrap_or_default();
    let has_id = |item: &Value| item.get("id").and_then(Value::as_str) == Some(id);
    let responses = call.foundry.responses.lock();
    let mut kept = responses
        .values()
        .filter(|stored| stored.project.as_deref() == call.place.project)
        .flat_map(|stored| {
            stored
                .draft
                .output()
                .into_iter()
                .chain(stored.input.clone())
        });
    kept.find(has_id).ok_or_else(|| {
        let message = format!(
            "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try \
             again with `store` set to true, or remove this item from your input."
        );
        Failure::model_api(http::StatusCode::NOT_FOUND, &message, Some("input"), None)
    })
}

fn prefix(kind: &str) -> &'static str {
    match kind {
        "reasoning" => "rs",
        "function_call" => "fc",
        "function_call_output" => "fco",
        "compaction" => "cmp",
        "message" => "msg",
        _ => "item",
    }
}
