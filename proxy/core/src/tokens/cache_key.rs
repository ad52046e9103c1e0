//! Which models take the `prompt_cache_key` of a request.

/// Names of models that are not `OpenAI`'s, by prefix, as the catalogue of Foundry has them.
///
/// A body with `prompt_cache_key` gets a 400 of such a model, "Unrecognized request argument supplied"
/// (`DeepSeek` on Foundry, hindsight#3518).
const OF_OTHERS: [&str; 17] = [
    "ai21-",
    "claude",
    "codestral",
    "cohere-",
    "deepseek",
    "fw-",
    "grok",
    "jais",
    "kimi",
    "llama",
    "mai-",
    "meta-llama",
    "ministral",
    "mistral",
    "phi-",
    "qwen",
    "tsuzumi",
];

/// Whether `model` takes a `prompt_cache_key`. One whose name says nothing does: its owner chose it.
#[must_use]
pub fn takes_cache_key(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    !OF_OTHERS.iter().any(|name| model.starts_with(name))
}
