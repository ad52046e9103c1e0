//! What a request asks of an endpoint, and whether its turn is there.

use crate::names::Class;

/// What a request asks of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The tokens that it asks for.
    pub size: u64,
    /// Requests of higher classes go first.
    pub class: Class,
}

/// Whether a candidate takes the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As its weight says.
    Usual,
    /// If no other one can, of any tier: it is well, and should not have all of its share yet.
    Spare,
    /// If no other one can, and none of these: it fails.
    Last,
    /// Not at all: what is left of it is for requests of a higher class.
    Yields,
    /// Not at all: it was tried, or cannot serve the request.
    Never,
}

// === impl Turn ===

impl Turn {
    /// Whether it may be chosen, at least where nothing else is left.
    #[must_use]
    pub const fn is_chosen(self) -> bool {
        match self {
            Self::Usual | Self::Spare | Self::Last => true,
            Self::Yields | Self::Never => false,
        }
    }
}

// === impl Demand ===

impl Demand {
    /// What is kept away if anything is.
    pub const LARGEST: Self = Self {
        size: u64::MAX,
        class: Class::Batch,
    };
}
