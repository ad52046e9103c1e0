//! Which APIs a model answers, by its name. Deployments may have any name, and so may models here: one
//! that says nothing answers everything.

use crate::errors::Failure;

/// Models that answer the same APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// OpenAI's chat models.
    Chat,
    /// Models of legacy completions.
    Instruct,
    Embeddings,
    /// Chat models of others, which know chat completions only.
    Partner,
    Claude,
    Any,
}

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
}

/// Beginnings of names. The first that fits decides.
const NAMES: &[(&str, Family)] = &[
    ("gpt-3.5-turbo-instruct", Family::Instruct),
    ("gpt-35-turbo-instruct", Family::Instruct),
    ("davinci", Family::Instruct),
    ("babbage", Family::Instruct),
    ("text-embedding", Family::Embeddings),
    ("gpt-", Family::Chat),
    ("o1", Family::Chat),
    ("o3", Family::Chat),
    ("o4", Family::Chat),
    ("claude", Family::Claude),
    ("deepseek", Family::Partner),
    ("grok", Family::Partner),
    ("llama", Family::Partner),
    ("mistral", Family::Partner),
    ("kimi", Family::Partner),
];

fn family(model: &str) -> Family {
    let model = model.to_ascii_lowercase();
    let named = NAMES.iter().find(|(name, _)| model.starts_with(name));
    named.map_or(Family::Any, |(_, family)| *family)
}

/// Refuses work that the model cannot do, in the words of the API that was asked.
pub(crate) fn check(model: &str, work: Work) -> Result<(), Failure> {
    let family = family(model);
    let can = match (family, work) {
        (Family::Any, _) => true,
        (Family::Chat, work) => matches!(work, Work::Chat | Work::Responses),
        (Family::Instruct, work) => work == Work::Completions,
        (Family::Embeddings, work) => work == Work::Embeddings,
        (Family::Partner, work) => work == Work::Chat,
        (Family::Claude, work) => work == Work::Messages,
    };
    if can {
        return Ok(());
    }
    Err(match (family, work) {
        (Family::Claude, _) => Failure::unsupported_api(),
        (_, Work::Responses) => Failure::unsupported_model(),
        (_, work) => Failure::unsupported_operation(name(work), model),
    })
}

/// Azure's word for the work.
fn name(work: Work) -> &'static str {
    match work {
        Work::Chat => "chatCompletion",
        Work::Completions => "completion",
        Work::Responses => "responses",
        Work::Messages => "messages",
        Work::Embeddings => "embeddings",
    }
}

#[cfg(test)]
mod tests;
