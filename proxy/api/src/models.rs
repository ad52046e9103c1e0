//! The list of models, as the clients of each dialect read it, and as Azure's resource manager lists deployments.

use proxy_core::admit::Reachable;
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

fn openai_model(one: &Reachable) -> Model<'_> {
    Model {
        id: &one.name,
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

fn anthropic_model(one: &Reachable) -> AnthropicModel<'_> {
    AnthropicModel {
        r#type: "model",
        id: &one.name,
        display_name: &one.name,
        created_at: "1970-01-01T00:00:00Z",
    }
}

/// Azure's form.
#[derive(Serialize)]
struct DeploymentList<'a> {
    value: Vec<Deployment<'a>>,
}

#[derive(Serialize)]
struct Deployment<'a> {
    r#type: &'static str,
    name: &'a str,
    properties: Properties<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    model: DeployedModel<'a>,
    provisioning_state: &'static str,
}

#[derive(Serialize)]
struct DeployedModel<'a> {
    format: &'static str,
    name: &'a str,
    version: &'a str,
}

fn azure_deployment(one: &Reachable) -> Deployment<'_> {
    let (name, version) = split(&one.model);
    Deployment {
        r#type: "Microsoft.CognitiveServices/accounts/deployments",
        name: &one.name,
        properties: Properties {
            model: DeployedModel {
                format: format(name),
                name,
                version,
            },
            provisioning_state: "Succeeded",
        },
    }
}

/// A model's name and the date at its end, by which Azure names most versions; no text if there is none.
fn split(model: &str) -> (&str, &str) {
    const DATE: &str = "-0000-00-00";
    let at = model.len().saturating_sub(DATE.len());
    let Some((name, end)) = model.split_at_checked(at).filter(|_| at > 0) else {
        return (model, "");
    };
    let is_date = end
        .bytes()
        .zip(DATE.bytes())
        .all(|(is, like)| is == like || like == b'0' && is.is_ascii_digit());
    if is_date {
        (name, end.trim_start_matches('-'))
    } else {
        (model, "")
    }
}

/// Azure's word for who made a model, by the beginning of its name. Clients refuse an empty one.
fn format(model: &str) -> &'static str {
    const FORMATS: [(&str, &str); 7] = [
        ("claude", "Anthropic"),
        ("deepseek", "DeepSeek"),
        ("grok", "xAI"),
        ("llama", "Meta"),
        ("mistral", "Mistral AI"),
        ("cohere", "Cohere"),
        ("phi", "Microsoft"),
    ];
    let begins = |name: &str| {
        let begin = model.get(..name.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(name))
    };
    let mut formats = FORMATS.iter();
    formats
        .find(|(name, _)| begins(name))
        .map_or("OpenAI", |(_, format)| format)
}

/// The JSON of all models.
#[must_use]
pub fn list(models: &[Reachable], dialect: Dialect) -> Vec<u8> {
    match dialect {
        Dialect::OpenAi => written(&ModelList {
            object: "list",
            data: models.iter().map(openai_model).collect(),
        }),
        Dialect::Anthropic => written(&AnthropicList {
            data: models.iter().map(anthropic_model).collect(),
            has_more: false,
            first_id: models.first().map(|one| &*one.name),
            last_id: models.last().map(|one| &*one.name),
        }),
    }
}

/// The JSON of one model.
#[must_use]
pub fn one(model: &Reachable, dialect: Dialect) -> Vec<u8> {
    match dialect {
        Dialect::OpenAi => written(&openai_model(model)),
        Dialect::Anthropic => written(&anthropic_model(model)),
    }
}

/// The JSON of all models as deployments.
#[must_use]
pub fn deployments(models: &[Reachable]) -> Vec<u8> {
    written(&DeploymentList {
        value: models.iter().map(azure_deployment).collect(),
    })
}

/// The JSON of one model as a deployment.
#[must_use]
pub fn deployment(model: &Reachable) -> Vec<u8> {
    written(&azure_deployment(model))
}

fn written(value: &impl Serialize) -> Vec<u8> {
    // Strings and constants only: cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}
