//! The rows that checks are made of, and how bytes are split.

use http::Method;
use proxy_api::{Call, find};

/// The deployment that replaces models in bodies: its name needs escapes.
pub(super) const DEPLOYMENT: &str = "a \"b\"\\c";

/// The row of a path.
pub(super) fn call(path: &str) -> &'static Call {
    let found = find(proxy_api::ROWS, &Method::POST, path);
    let call = found.ok().and_then(|found| found.api.answer.call());
    call.expect("it is served by a backend")
}

/// The row of chat completions.
pub(super) fn chat() -> &'static Call {
    call("/v1/chat/completions")
}

/// The rows that a backend answers.
pub(super) fn calls() -> Vec<&'static Call> {
    let rows = proxy_api::ROWS.iter();
    rows.filter_map(|row| row.answer.call()).collect()
}

/// Splits into pieces of 1 to 16 bytes: SplitMix64's increments, seeded.
pub(super) fn chunks(mut bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut state = u64::from(seed);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let size = usize::try_from(state >> 60).unwrap_or(0) + 1;
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
