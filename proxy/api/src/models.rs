//! The list of models, as the clients of each dialect read it.

use std::sync::Arc;

use serde::Serialize;

use crate::error::Dialect;

#[cfg(test)]
mod tests;

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

fn model(id: &str) -> Model<'_> {
    Model {
        id,
        object: "model",
        created: 0,
        owned_by: "tundish",
    }
}

/// Anthropic's form. It has no more pages: all models are on the first one.
#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'static str,
}

fn anthropic_model(id: &str) -> AnthropicModel<'_> {
    AnthropicModel {
        r#type: "model",
        id,
        display_name: id,
        created_at: "1970-01-01T00:00:00Z",
    }
}

/// The JSON of all models.
#[must_use]
pub fn list(names: &[Arc<str>], dialect: Dialect) -> Vec<u8> {
    // Strings and constants only: cannot fail.
    let written = match dialect {
        Dialect::OpenAi => serde_json::to_vec(&ModelList {
            object: "list",
            data: names.iter().map(|name| model(name)).collect(),
        }),
        Dialect::Anthropic => serde_json::to_vec(&AnthropicList {
            data: names.iter().map(|name| anthropic_model(name)).collect(),
            has_more: false,
            first_id: names.first().map(|name| &**name),
            last_id: names.last().map(|name| &**name),
        }),
    };
    written.unwrap_or_default()
}

/// The JSON of one model.
#[must_use]
pub fn one(name: &str, dialect: Dialect) -> Vec<u8> {
    let written = match dialect {
        Dialect::OpenAi => serde_json::to_vec(&model(name)),
        Dialect::Anthropic => serde_json::to_vec(&anthropic_model(name)),
    };
    written.unwrap_or_default()
}
