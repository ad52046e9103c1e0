//! How many tokens of input one token of output weighs in a provisioned deployment, as Microsoft documents it
//! (Foundry, provisioned throughput). What is not known weighs as gpt-4.1.

const OF_GPT_5: u64 = 8;
const USUAL: u64 = 4;

/// The weight of the output of `model`.
#[must_use]
pub fn output_weight(model: &str) -> u64 {
    if model.starts_with("gpt-5") {
        OF_GPT_5
    } else {
        USUAL
    }
}
