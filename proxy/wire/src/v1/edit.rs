//! A changed entry as the difference from the one before, so that a delta holds what changed in a long entry:
//! a route lists each Secret whose key it admits, and they seldom change with it.
//!
//! Knows texts, not what they mean: the digest of the table says whether the right one came out.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The value of the parameter `deltas`, by which a follower says that it knows edited entries.
pub const BY_EDITS: &str = "edits";

/// Longest entry that is edited, in bytes. A step may copy what another has copied, so a short edit can state a
/// long text; a route with 100,000 Secrets has less.
const LONGEST: usize = 8 * 1024 * 1024;

/// The bytes of a copy within a few thousand. A shorter piece is cheaper to state.
const WORTH_A_COPY: usize = 12;

/// The steps that make a text, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Step {
    /// The bytes of the old text from one place to before another.
    Copy(usize, usize),
    /// This text.
    Put(String),
}

// === impl Edit ===

impl Edit {
    /// What makes `new` of `old`, if that is much shorter to state than `new`.
    pub(super) fn between(old: &str, new: &str) -> Option<Self> {
        if old.len().max(new.len()) > LONGEST {
            return None;
        }
        let start = common(old.chars(), new.chars());
        let (old_rest, new_rest) = (old.get(start..)?, new.get(start..)?);
        let end = common(old_rest.chars().rev(), new_rest.chars().rev());
        let old_end = old.len().checked_sub(end)?;
        let new_end = new.len().checked_sub(end)?;
        let mut edit = Self(Vec::new());
        edit.copy(0, start);
        edit.middle(old.get(start..old_end)?, start, new.get(start..new_end)?);
        edit.copy(old_end, old.len());
        let length = serde_json::to_vec(&edit).ok()?.len();
        (length < new.len() / 2).then_some(edit)
    }

    /// What it makes of `old`; `None` if it was made for another text, or the result is too long.
    pub(super) fn of(&self, old: &str) -> Option<String> {
        let mut new = String::new();
        for step in &self.0 {
            let piece = match step {
                Step::Copy(from, to) => old.get(*from..*to)?,
                Step::Put(text) => text,
            };
            if new.len().saturating_add(piece.len()) > LONGEST {
                return None;
            }
            new.push_str(piece);
        }
        Some(new)
    }

    /// Adds the steps for `new`, from pieces of `old`, which is at `offset` of the whole text. Pieces end with
    /// commas, as the members and elements of JSON do.
    fn middle(&mut self, old: &str, offset: usize, new: &str) {
        let mut places = HashMap::new();
        let mut at = offset;
        for piece in old.split_inclusive(',') {
            places.entry(piece).or_insert(at);
            at = at.saturating_add(piece.len());
        }
        for piece in new.split_inclusive(',') {
            match places.get(piece) {
                Some(from) if piece.len() >= WORTH_A_COPY || self.ends_at(*from) => {
                    self.copy(*from, from.saturating_add(piece.len()));
                }
                Some(_) | None => self.put(piece),
            }
        }
    }

    /// Whether a copy from there would go on with the last one.
    fn ends_at(&self, place: usize) -> bool {
        matches!(self.0.last(), Some(Step::Copy(_, to)) if *to == place)
    }

    fn copy(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        match self.0.last_mut() {
            Some(Step::Copy(_, end)) if *end == from => *end = to,
            Some(Step::Copy(..) | Step::Put(_)) | None => self.0.push(Step::Copy(from, to)),
        }
    }

    fn put(&mut self, piece: &str) {
        match self.0.last_mut() {
            Some(Step::Put(text)) => text.push_str(piece),
            Some(Step::Copy(..)) | None => self.0.push(Step::Put(piece.to_owned())),
        }
    }
}

/// The length in bytes of what both begin with.
fn common(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    let same = a.zip(b).take_while(|(a, b)| a == b);
    same.map(|(a, _)| a.len_utf8()).sum()
}
