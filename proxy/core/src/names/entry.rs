//! Names of a table's entries.

use std::fmt;

use super::object::ObjectName;

/// The kinds of entries that a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A backend, from an AIBackend.
    Backend,
    /// A route, from an AIRoute.
    Route,
    /// A quota, from an AIQuota.
    Quota,
    /// A consumer's key, from a Secret.
    Key,
}

/// The name of one entry: its kind, and the object that it comes from. Written
/// `kind/namespace/name`, as in `route/team-a/chat`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName {
    /// The kind of the entry.
    pub kind: EntryKind,
    /// The object.
    pub name: ObjectName,
}

// === impl EntryKind ===

impl EntryKind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 4] = [Self::Backend, Self::Route, Self::Quota, Self::Key];

    /// The word in an entry's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Route => "route",
            Self::Quota => "quota",
            Self::Key => "key",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl EntryName ===

impl EntryName {
    /// Names the entry of this kind.
    #[must_use]
    pub const fn new(kind: EntryKind, name: ObjectName) -> Self {
        Self { kind, name }
    }

    /// Reads `kind/namespace/name`; `None` for another form or an unknown kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        Some(Self::new(EntryKind::parse(kind)?, ObjectName::parse(name)?))
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests;
