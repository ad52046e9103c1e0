//! The count of a prompt while it is walked through, and how its parts are read.

use std::borrow::Cow;

use proxy_core::tokens::Encoding;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::image::Vision;

/// What was counted so far.
pub(super) struct Tally {
    pub(super) encoding: Encoding,
    pub(super) vision: Vision,
    pub(super) budget: u64,
    pub(super) total: u64,
    pub(super) text_left: usize,
}

impl Tally {
    pub(super) fn add(&mut self, tokens: u64) {
        self.total = self.total.saturating_add(tokens);
    }

    /// Counts a text; `None` if that is too much for one request.
    pub(super) fn text(&mut self, text: &str) -> Option<()> {
        if !self.is_over() {
            self.text_left = self.text_left.checked_sub(text.len())?;
            let left = self.budget.saturating_sub(self.total);
            self.add(self.encoding.count(text, left));
        }
        Some(())
    }

    /// Whether the answer is certain.
    pub(super) const fn is_over(&self) -> bool {
        self.total > self.budget
    }
}

/// A string that is borrowed unless it holds escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A part of a body whose kind is seen from its first byte.
pub(super) enum Shape<'a> {
    Null,
    Text(Cow<'a, str>),
    List(Vec<&'a RawValue>),
    Object,
}

impl<'a> Shape<'a> {
    pub(super) fn of(raw: &'a RawValue) -> Option<Self> {
        let json = raw.get();
        match json.as_bytes().first()? {
            b'n' => Some(Self::Null),
            b'"' => Some(Self::Text(read::<Text<'a>>(raw)?.0)),
            b'[' => read(raw).map(Self::List),
            b'{' => Some(Self::Object),
            _ => None,
        }
    }
}

/// Reads a part of a body; what surprises is `None`.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}
