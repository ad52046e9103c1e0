//! The content filter and the failing model: they find what tests write into a prompt, and nothing else.

use memchr::memmem;

/// What the filter stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtered {
    /// The request is refused; the model has read it all the same, and it is billed.
    Prompt,
    /// The answer ends halfway.
    Completion,
}

const PROMPT: &[u8] = b"filter:prompt";
const COMPLETION: &[u8] = b"filter:completion";

/// What it makes of a request's body.
pub(crate) fn judge(body: &[u8]) -> Option<Filtered> {
    let has = |word: &[u8]| memmem::find(body, word).is_some();
    if has(PROMPT) {
        Some(Filtered::Prompt)
    } else if has(COMPLETION) {
        Some(Filtered::Completion)
    } else {
        None
    }
}

/// Whether the model fails halfway.
pub(crate) fn fails(body: &[u8]) -> bool {
    memmem::find(body, b"fail:response").is_some()
}
