//! The most output tokens that a model gives in one answer.

/// Model families by name prefix, longer prefixes first.
///
/// Source: "Foundry Models sold by Azure", column "Max Output Tokens"
/// (<https://learn.microsoft.com/azure/foundry/foundry-models/concepts/models-sold-directly-by-azure>,
/// June 2026); for GPT-4 and GPT-3.5 before `turbo-2024-04-09` the context window, which bounds
/// the answer too (the retired `concepts/legacy-models`).
const CEILINGS: [(&str, u64); 29] = [
    ("gpt-chat-latest", 16_384),
    ("gpt-5-chat", 16_384),
    ("gpt-5.1-chat", 16_384),
    ("gpt-5.2-chat", 16_384),
    ("gpt-5.3-chat", 16_384),
    ("gpt-5", 128_000),
    ("gpt-4.1", 32_768),
    ("gpt-4.5", 16_384),
    ("gpt-4o-realtime", 4_096),
    ("gpt-4o-mini-realtime", 4_096),
    ("gpt-4o-2024-05-13", 4_096),
    ("gpt-4o", 16_384),
    ("gpt-4-turbo", 4_096),
    ("gpt-4-32k", 32_768),
    ("gpt-4", 8_192),
    ("gpt-35-turbo-16k", 16_384),
    ("gpt-3.5-turbo-16k", 16_384),
    ("gpt-35-turbo", 4_096),
    ("gpt-3.5-turbo", 4_096),
    ("gpt-oss", 131_072),
    ("gpt-audio", 16_384),
    ("gpt-realtime", 4_096),
    ("o1-preview", 32_768),
    ("o1-mini", 65_536),
    ("o1", 100_000),
    ("o3", 100_000),
    ("o4-mini", 100_000),
    ("codex-mini", 100_000),
    ("computer-use-preview", 1_024),
];

/// The most output tokens of `model` in one answer, by its publisher; 0 for an embedding, `None` when
/// unknown.
///
/// Bounds what is held. Requests are not checked against it; the backend does that.
#[must_use]
pub fn max_output_tokens(model: &str) -> Option<u64> {
    if model.starts_with("text-embedding-") {
        return Some(0);
    }
    CEILINGS
        .iter()
        .find(|(family, _)| model.starts_with(family))
        .map(|(_, ceiling)| *ceiling)
}
