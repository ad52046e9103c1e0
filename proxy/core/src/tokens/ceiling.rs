//! How much a model reads and answers at most.

/// Model families by name prefix, longer prefixes first: the context window, and the most output
/// tokens of one answer.
///
/// Source: "Foundry Models sold by Azure", columns "Context Window", "Max request" and "Max Output
/// Tokens"
/// (<https://learn.microsoft.com/azure/foundry/foundry-models/concepts/models-sold-directly-by-azure>,
/// September 2026); for GPT-4 and GPT-3.5 before `turbo-2024-04-09` the retired
/// `concepts/legacy-models`, where the context window bounds the answer too. Of several versions
/// under one name the largest window counts.
const MODELS: [(&str, u64, u64); 35] = [
    ("gpt-chat-latest", 128_000, 16_384),
    ("gpt-5-chat", 128_000, 16_384),
    ("gpt-5.1-chat", 128_000, 16_384),
    ("gpt-5.2-chat", 128_000, 16_384),
    ("gpt-5.3-chat", 128_000, 16_384),
    ("gpt-6", 1_050_000, 128_000),
    ("gpt-5.4-mini", 400_000, 128_000),
    ("gpt-5.4-nano", 400_000, 128_000),
    ("gpt-5.4", 1_050_000, 128_000),
    ("gpt-5.5", 1_050_000, 128_000),
    ("gpt-5.6", 1_050_000, 128_000),
    ("gpt-5", 400_000, 128_000),
    ("gpt-4.1", 1_047_576, 32_768),
    ("gpt-4.5", 128_000, 16_384),
    ("gpt-4o-realtime", 32_000, 4_096),
    ("gpt-4o-mini-realtime", 128_000, 4_096),
    ("gpt-4o-2024-05-13", 128_000, 4_096),
    ("gpt-4o", 128_000, 16_384),
    ("gpt-4-turbo", 128_000, 4_096),
    ("gpt-4-32k", 32_768, 32_768),
    ("gpt-4", 8_192, 8_192),
    ("gpt-35-turbo-16k", 16_384, 16_384),
    ("gpt-3.5-turbo-16k", 16_384, 16_384),
    ("gpt-35-turbo", 16_385, 4_096),
    ("gpt-3.5-turbo", 16_385, 4_096),
    ("gpt-oss", 131_072, 131_072),
    ("gpt-audio", 128_000, 16_384),
    ("gpt-realtime", 32_000, 4_096),
    ("o1-preview", 128_000, 32_768),
    ("o1-mini", 128_000, 65_536),
    ("o1", 200_000, 100_000),
    ("o3", 200_000, 100_000),
    ("o4-mini", 200_000, 100_000),
    ("codex-mini", 200_000, 100_000),
    ("computer-use-preview", 8_192, 1_024),
];

/// The context window of embeddings, by the same source.
const EMBEDDING_CONTEXT: u64 = 8_192;

/// The most output tokens of `model` in one answer, by its publisher; 0 for an embedding, `None` when
/// unknown.
///
/// Bounds what is held. Requests are not checked against it; the backend does that.
#[must_use]
pub fn max_output_tokens(model: &str) -> Option<u64> {
    if is_embedding(model) {
        return Some(0);
    }
    find(model).map(|(_, ceiling)| ceiling)
}

/// The most tokens that `model` takes in one request, by its publisher; `None` when unknown.
///
/// Bounds what images and files may count for.
#[must_use]
pub fn context_window(model: &str) -> Option<u64> {
    if is_embedding(model) {
        return Some(EMBEDDING_CONTEXT);
    }
    find(model).map(|(window, _)| window)
}

fn is_embedding(model: &str) -> bool {
    model.starts_with("text-embedding-")
}

fn find(model: &str) -> Option<(u64, u64)> {
    let found = MODELS.iter().find(|(family, ..)| model.starts_with(family));
    found.map(|(_, window, ceiling)| (*window, *ceiling))
}
