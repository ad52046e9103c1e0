//! What an endpoint refuses of what the gateway adds to requests. It is learned from its answers, and kept as
//! long as the endpoint is declared.

use std::sync::atomic::{AtomicU8, Ordering};

use proxy_api::{BoundName, UserMember};

/// The members that were refused.
#[derive(Debug, Default)]
pub(crate) struct Quirks(AtomicU8);

/// The same, as one request takes them into account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused(u8);

/// A member that the gateway adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    StreamOptions,
    Bound(BoundName),
    User(UserMember),
}

// === impl Quirks ===

impl Quirks {
    pub(crate) fn known(&self) -> Refused {
        Refused(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn learn(&self, refused: Refused) {
        self.0.fetch_or(refused.0, Ordering::Relaxed);
    }
}

// === impl Refused ===

impl Refused {
    pub(crate) const fn has(self, added: Added) -> bool {
        self.0 & added.bit() != 0
    }

    pub(crate) const fn with(self, added: Added) -> Self {
        Self(self.0 | added.bit())
    }
}

// === impl Added ===

impl Added {
    pub(crate) const ALL: [Self; 7] = [
        Self::StreamOptions,
        Self::Bound(BoundName::Tokens),
        Self::Bound(BoundName::CompletionTokens),
        Self::Bound(BoundName::OutputTokens),
        Self::User(UserMember::User),
        Self::User(UserMember::SafetyIdentifier),
        Self::User(UserMember::Metadata),
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::StreamOptions => "stream_options",
            Self::Bound(name) => name.as_str(),
            Self::User(member) => member.as_str(),
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::StreamOptions => 1,
            Self::Bound(BoundName::Tokens) => 2,
            Self::Bound(BoundName::CompletionTokens) => 4,
            Self::Bound(BoundName::OutputTokens) => 8,
            Self::User(UserMember::User) => 16,
            Self::User(UserMember::SafetyIdentifier) => 32,
            Self::User(UserMember::Metadata) => 64,
        }
    }
}
