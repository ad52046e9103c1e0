//! What paths mean that no row serves, so that a refusal can name it: a client whose base URL is right
//! should not be told to check it.

use proxy_core::names::Operation;

use crate::error::Dialect;
use crate::path::matched;

#[cfg(test)]
mod tests;

/// What `OpenAI`'s paths begin with, in all forms that Foundry and its clients have for them.
const ROOTS: [&str; 9] = [
    "/openai/deployments/{model}",
    "/openai/v1/deployments/{model}",
    "/openai/v1",
    "/openai",
    "/v1/deployments/{model}",
    "/v1",
    "/models",
    "/api/projects/{project}/openai/v1",
    "/api/projects/{project}/openai",
];

/// The operations by the first segments below a root.
const BELOW: [(&str, &str); 24] = [
    ("messages", Operation::Messages.as_str()),
    ("chat/completions", Operation::ChatCompletions.as_str()),
    ("completions", Operation::Completions.as_str()),
    ("embeddings", Operation::Embeddings.as_str()),
    ("responses", Operation::Responses.as_str()),
    ("images", Operation::Images.as_str()),
    ("audio", Operation::Audio.as_str()),
    ("realtime", Operation::Realtime.as_str()),
    ("files", Operation::Files.as_str()),
    ("uploads", Operation::Files.as_str()),
    ("batches", Operation::Batches.as_str()),
    ("conversations", Operation::Responses.as_str()),
    ("moderations", Operation::Moderations.as_str()),
    ("vector_stores", Operation::VectorStores.as_str()),
    ("fine_tuning", "FineTuning"),
    ("assistants", "Assistants"),
    ("threads", "Threads"),
    ("containers", Operation::Containers.as_str()),
    ("evals", "Evals"),
    ("videos", "Videos"),
    ("skills", "Skills"),
    ("extensions", "Extensions"),
    ("info", Operation::Models.as_str()),
    ("models", Operation::Models.as_str()),
];

/// An operation that no row serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name, as rules write it where they can.
    pub operation: &'static str,
    /// The shape of errors that its clients read.
    pub dialect: Dialect,
}

/// The operation of a path, if some server of these APIs has it.
pub(crate) fn named(path: &str) -> Option<Other> {
    let other = |operation, dialect| Some(Other { operation, dialect });
    if ["/anthropic/v1", "/v1"]
        .iter()
        .any(|root| is_under(path, root, "messages/batches"))
    {
        return other("MessageBatches", Dialect::Anthropic);
    }
    if is_below(path, "/anthropic") || is_below(path, "/v1/messages") {
        return other(Operation::Messages.as_str(), Dialect::Anthropic);
    }
    for root in ROOTS {
        for (segments, operation) in BELOW {
            if is_under(path, root, segments) {
                return other(operation, Dialect::OpenAi);
            }
        }
    }
    let is_agent = is_below(path, "/api/projects");
    is_agent.then_some(Other {
        operation: Operation::Agents.as_str(),
        dialect: Dialect::OpenAi,
    })
}

fn is_below(path: &str, root: &str) -> bool {
    let rest = path.strip_prefix(root);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `segments` follow `root` in the path, whatever comes behind them.
fn is_under(path: &str, root: &str, segments: &str) -> bool {
    let depth = root.matches('/').count() + segments.split('/').count();
    let mut slashes = path.match_indices('/').map(|(at, _)| at);
    let end = slashes.nth(depth).unwrap_or(path.len());
    let begin = path.get(..end).unwrap_or_default();
    let begin = begin.strip_suffix(segments);
    let begin = begin.and_then(|begin| begin.strip_suffix('/'));
    begin.is_some_and(|begin| matched(root, begin).is_some())
}
