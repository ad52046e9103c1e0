//! The prompt cache of one resource, as Azure documents it: prefixes of 1,024 tokens and then each 128 more, of
//! one model, for as long as they are used every few minutes. A word is a token, as in `measure`.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// Shortest prefix that is kept, and how much longer the next one is (Azure OpenAI, "Prompt caching").
const SHORTEST: u64 = 1_024;
const STEP: u64 = 128;
/// "Typically cleared within 5-10 minutes of inactivity."
const LASTS: Duration = Duration::from_secs(300);
/// Most prefixes; beyond them the half that was used least recently goes.
const MOST: usize = 10_000;

/// When each prefix was used last.
#[derive(Debug, Default)]
pub(crate) struct PromptCache(Mutex<HashMap<u64, Duration>>);

impl PromptCache {
    /// How many tokens of a prompt were there already. Its prefixes are from now on.
    pub(crate) fn read(&self, model: &str, prompt: &[&Value], now: Duration) -> u64 {
        let prefixes = prefixes(model, prompt);
        let mut used = self.0.lock();
        let mut cached = 0;
        for (length, prefix) in prefixes {
            let before = used.insert(prefix, now);
            if before.is_some_and(|before| now.saturating_sub(before) < LASTS) {
                cached = length;
            }
        }
        if used.len() > MOST {
            let mut times: Vec<Duration> = used.values().copied().collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or_default();
            used.retain(|_, time| *time > middle);
        }
        cached
    }
}

/// The prefixes that a cache keeps of a prompt, with their lengths, the shortest first.
fn prefixes(model: &str, prompt: &[&Value]) -> Vec<(u64, u64)> {
    let mut hash = DefaultHasher::new();
    model.hash(&mut hash);
    let mut words = Vec::new();
    for part in prompt {
        collect(part, &mut words);
    }
    let mut prefixes = Vec::new();
    for (length, word) in (1_u64..).zip(words) {
        word.hash(&mut hash);
        if length >= SHORTEST && (length - SHORTEST).is_multiple_of(STEP) {
            prefixes.push((length, hash.finish()));
        }
    }
    prefixes
}

/// The words of messages or items, in their order.
fn collect<'a>(value: &'a Value, words: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => words.extend(text.split_whitespace()),
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, words)),
        Value::Object(fields) => {
            for name in ["role", "content", "text", "arguments", "output"] {
                if let Some(field) = fields.get(name) {
                    collect(field, words);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
