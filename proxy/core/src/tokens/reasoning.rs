//! Which models think before they answer. The thoughts are billed as output, and a bound on the output
//! counts them.

/// Families by name prefix that always or by default reason.
///
/// Source: "Foundry Models sold by Azure", the models marked "Reasoning"
/// (<https://learn.microsoft.com/azure/foundry/foundry-models/concepts/models-sold-directly-by-azure>,
/// September 2026). `gpt-5-chat` is the one of its family that does not.
const FAMILIES: [&str; 6] = [
    "gpt-5",
    "gpt-6",
    "gpt-chat-latest",
    "gpt-oss",
    "codex-mini",
    "grok-code-fast",
];

/// Whether `model` reasons: the known families, `o1`, `o3-mini`, `DeepSeek-R1`, and what says so in
/// its name, as `grok-4-fast-reasoning`. A deployment's name does not do: its owner chose it.
#[must_use]
pub fn is_reasoning(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    let says_no = model.starts_with("gpt-5-chat") || model.contains("non-reasoning");
    let says_so = model.contains("-reasoning") || model.contains("-thinking");
    let is_known = FAMILIES.iter().any(|family| model.starts_with(family));
    !says_no && (says_so || is_known || is_o_series(&model) || is_deepseek_r(&model))
}

/// `o1`, `o3-mini`, `o4-mini-2025-04-16`: the letter, a digit, and nothing but a suffix.
pub(super) fn is_o_series(model: &str) -> bool {
    let suffix = ["o1", "o3", "o4"]
        .iter()
        .find_map(|family| model.strip_prefix(family));
    suffix.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// `deepseek-r1`, `deepseek-r1-0528`, `mai-ds-r1`: DeepSeek's R1 and what was made of it.
fn is_deepseek_r(model: &str) -> bool {
    model.contains("deepseek-r1") || model.starts_with("mai-ds-r1")
}
