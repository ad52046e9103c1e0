//! Finds one top-level member of an answer without reading the rest: answers are large, and a walk over
//! many small members would cost more than to relay them.
//!
//! The name is searched as bytes. What is found is a member of the answer itself if no brace is open
//! but the first: counted from the front or from the end, whichever is nearer. Judges no grammar: that
//! is the backend's business. A name that is written with escapes is not found.

use memchr::memchr2;
use memchr::memmem::Finder;

use crate::json::Cursor;

#[cfg(test)]
mod tests;

/// Most answers end with what is wanted, within a few hundred bytes.
const TAIL: usize = 4 << 10;
/// Candidates that are judged one by one, each at the cost of half the answer at most. After them the
/// answer is walked once: a backend that repeats the name must not make the search quadratic.
const TRIES: usize = 4;

/// A name to search for.
pub(crate) struct Name(Finder<'static>);

impl Name {
    /// `quoted` has its quotes. Within a string they would be escaped, so these bytes are a name, or a
    /// whole string that no colon follows.
    pub(crate) fn new(quoted: &'static [u8]) -> Self {
        Self(Finder::new(quoted))
    }

    /// A cursor at the value of the last top-level member with this name.
    pub(crate) fn last_in<'a>(&self, bytes: &'a [u8]) -> Option<Cursor<'a>> {
        let mut end = bytes.len();
        for _ in 0..TRIES {
            let (at, value) = self.last_before(bytes, end)?;
            if is_top_level(bytes, at) {
                return Some(Cursor::at(bytes, value));
            }
            end = at;
        }
        let at = self.walk(bytes)?;
        Some(Cursor::at(bytes, at))
    }

    /// A cursor at the value of the last member with this name, at any depth.
    pub(crate) fn last_at_any_depth<'a>(&self, bytes: &'a [u8]) -> Option<Cursor<'a>> {
        let (_, value) = self.last_before(bytes, bytes.len())?;
        Some(Cursor::at(bytes, value))
    }

    /// Cursors at the values of all members with this name, at any depth.
    pub(crate) fn all_in<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Cursor<'a>> + 'a {
        let found = self.0.find_iter(bytes);
        found.filter_map(|at| {
            let at = self.value_of(bytes, at)?;
            Some(Cursor::at(bytes, at))
        })
    }

    /// Whether some member has this name and an object as its value, at any depth.
    pub(crate) fn names_object(&self, bytes: &[u8]) -> bool {
        self.all_in(bytes).any(|value| value.peek() == Some(b'{'))
    }

    /// The last member with this name that begins before `end`, at any depth: where its name and its
    /// value begin.
    fn last_before(&self, bytes: &[u8], end: usize) -> Option<(usize, usize)> {
        let last_after = |start: usize| {
            let found = self.0.find_iter(bytes.get(start..end)?);
            found
                .filter_map(|at| Some((start + at, self.value_of(bytes, start + at)?)))
                .last()
        };
        last_after(end.saturating_sub(TAIL)).or_else(|| last_after(0))
    }

    /// Where the value begins, if the bytes at `at` are a name.
    fn value_of(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let mut cursor = Cursor::at(bytes, at + self.0.needle().len());
        cursor.blanks();
        if cursor.peek() != Some(b':') {
            return None;
        }
        cursor.at += 1;
        cursor.blanks();
        let before = bytes.get(..at)?.iter().rev();
        let backslashes = before.take_while(|byte| **byte == b'\\').count();
        // Else it is the end of a longer string.
        (backslashes % 2 == 0).then_some(cursor.at)
    }

    /// The value of the last top-level member, by one walk over everything.
    fn walk(&self, bytes: &[u8]) -> Option<usize> {
        let mut depth = Depth::at_front(bytes)?;
        let mut found = None;
        while depth.next_string() {
            let at = depth.at;
            let named = bytes
                .get(at..)
                .is_some_and(|rest| rest.starts_with(self.0.needle()));
            if depth.open == 1 && named {
                found = self.value_of(bytes, at).or(found);
            }
            depth.past_string();
        }
        found
    }
}

/// Whether the name at `at` is of a member of the outermost object.
fn is_top_level(bytes: &[u8], at: usize) -> bool {
    if at <= bytes.len() / 2 {
        let Some(mut depth) = Depth::at_front(bytes) else {
            return false;
        };
        while depth.next_string() && depth.at < at {
            depth.past_string();
        }
        return depth.at == at && depth.open == 1;
    }
    // Nothing but the end follows where the brace that is open at `at` is closed.
    let mut depth = Depth { bytes, at, open: 1 };
    while depth.next_string() {
        depth.past_string();
    }
    let rest = bytes.get(depth.at..).unwrap_or_default();
    depth.open == 0 && rest.trim_ascii_start().is_empty()
}

/// Counts the brackets that are open, past strings.
struct Depth<'a> {
    bytes: &'a [u8],
    at: usize,
    open: usize,
}

impl<'a> Depth<'a> {
    /// Just after the brace of the outermost object.
    fn at_front(bytes: &'a [u8]) -> Option<Self> {
        let at = bytes.len() - bytes.trim_ascii_start().len();
        (bytes.get(at) == Some(&b'{')).then_some(Self {
            bytes,
            at: at + 1,
            open: 1,
        })
    }

    /// Goes on to the quote of the next string; false where the text or the outermost object ends.
    fn next_string(&mut self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for (offset, byte) in rest.iter().enumerate() {
            match byte {
                b'"' => {
                    self.at += offset;
                    return true;
                }
                b'{' | b'[' => self.open += 1,
                b'}' | b']' => {
                    self.open -= 1;
                    if self.open == 0 {
                        self.at += offset + 1;
                        return false;
                    }
                }
                _ => {}
            }
        }
        self.at = self.bytes.len();
        false
    }

    /// Goes past the string whose quote is next.
    fn past_string(&mut self) {
        self.at += 1;
        while let Some(offset) = self
            .bytes
            .get(self.at..)
            .and_then(|rest| memchr2(b'"', b'\\', rest))
        {
            self.at += offset;
            if self.bytes.get(self.at) == Some(&b'"') {
                self.at += 1;
                return;
            }
            self.at += 2;
        }
        self.at = self.bytes.len();
    }
}
