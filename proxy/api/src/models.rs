//! The list of models, as `OpenAI`'s clients read it.

use std::sync::Arc;

use serde::Serialize;

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

/// The JSON of all models.
#[must_use]
pub fn list(names: &[Arc<str>]) -> Vec<u8> {
    let list = ModelList {
        object: "list",
        data: names.iter().map(|name| model(name)).collect(),
    };
    // Strings and constants only: cannot fail.
    serde_json::to_vec(&list).unwrap_or_default()
}

/// The JSON of one model.
#[must_use]
pub fn one(name: &str) -> Vec<u8> {
    serde_json::to_vec(&model(name)).unwrap_or_default()
}
