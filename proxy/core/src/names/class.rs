//! The classes of requests: which go first under pressure.

use std::str::FromStr;

use super::consumer::Attributes;

/// Who yields under pressure: the lesser class first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Work that can wait.
    Batch,
    /// As most requests.
    #[default]
    Standard,
    /// Somebody waits for the answer.
    Interactive,
}

impl Class {
    /// All of them, the first to yield first.
    pub const ALL: [Self; 3] = [Self::Batch, Self::Standard, Self::Interactive];

    /// The attribute of a consumer that lowers the class of its requests.
    pub const ATTRIBUTE: &str = "class";

    /// The class of a request by a caller with these attributes.
    #[must_use]
    pub fn lowered_by(self, attributes: &Attributes) -> Self {
        let named = attributes
            .iter()
            .find(|(name, _)| **name == *Self::ATTRIBUTE);
        let lower = named.and_then(|(_, class)| class.parse().ok());
        lower.map_or(self, |lower| self.min(lower))
    }

    /// As objects and the channel write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "Batch",
            Self::Standard => "Standard",
            Self::Interactive => "Interactive",
        }
    }
}

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        let named = |one: &Self| one.as_str() == text;
        Self::ALL.into_iter().find(named).ok_or(UnknownClass)
    }
}

/// A class that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a class is Interactive, Standard or Batch")]
pub struct UnknownClass;
