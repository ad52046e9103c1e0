//! Moderations. A text with the word `kill` in it is violent; all others are harmless.

use serde_json::{Map, Value, json};

use crate::{
    body::{Object, missing},
    call::{Call, Job, Reply},
    errors::Failure,
    family::Work,
    limits::Cost,
    record::Usage,
};

/// What judges if the request names no model.
const DEFAULT_MODEL: &str = "omni-moderation-latest";
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// `POST moderations`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let mut deployment = call.named(Work::Moderations)?;
    let body = Object::read(call.body)?;
    if deployment.is_none() {
        let model = body.text("model")?.unwrap_or(DEFAULT_MODEL);
        deployment = Some(call.deployment(model, Work::Moderations)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    let results: Vec<Value> = texts(&body)?.iter().map(|text| result(text)).collect();
    let answer = json!({
        "id": format!("modr-{:016x}", call.foundry.fresh_id()), "model": deployment.model,
        "results": results,
    });
    Ok(Job {
        cost: Some(Cost::default()),
        input: Some(Usage::default()),
        deferred: false,
        members: body.members(),
        reply: Box::new(move || Reply::produced(answer.to_string(), Usage::default())),
    })
}

/// The texts to judge: one, several, or the parts of one content, which are judged together.
fn texts(body: &Object) -> Result<Vec<String>, Failure> {
    let input = body.get("input").ok_or_else(|| missing("input"))?;
    let wrong = || {
        let message = "Invalid type for 'input': expected a string or an array.";
        Failure::invalid(message, Some("input"), Some("invalid_type"))
    };
    if let Some(text) = input.as_str() {
        return Ok(vec![text.to_owned()]);
    }
    let items = input.as_array().ok_or_else(wrong)?;
    if items.iter().all(Value::is_object) {
        let texts = items.iter().filter_map(|part| part.get("text")?.as_str());
        return Ok(vec![texts.collect::<Vec<_>>().join(" ")]);
    }
    let texts: Option<Vec<String>> = items
        .iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect();
    texts.ok_or_else(wrong)
}

fn result(text: &str) -> Value {
    let is_violent = text.split_whitespace().any(|word| word == "kill");
    let is_hit = |category: &str| is_violent && category == "violence";
    let each = |value: &dyn Fn(&str) -> Value| {
        let fields = CATEGORIES
            .iter()
            .map(|name| ((*name).to_owned(), value(name)));
        fields.collect::<Map<String, Value>>()
    };
    json!({
        "flagged": is_violent,
        "categories": each(&|name| json!(is_hit(name))),
        "category_scores": each(&|name| if is_hit(name) { json!(0.97) } else { json!(0.0001) }),
        "category_applied_input_types": each(&|_| json!(["text"])),
    })
}
