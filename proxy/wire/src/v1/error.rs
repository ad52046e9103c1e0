//! Why bytes of the channel are not what they should be.

/// Why objects are not a table, or bytes not a line.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The key of an entry has no known form.
    #[error("object {0:?}: not kind/namespace/name of a known kind")]
    Key(String),
    /// The entry is not what its key promises.
    #[error("object {key:?}: {reason}")]
    Object {
        /// The entry's key.
        key: String,
        /// What is wrong with it; never quotes a credential.
        reason: String,
    },
    /// A line of the channel or a file is malformed.
    #[error("line: {0}")]
    Line(String),
    /// This reader does not know lines of this kind.
    #[error("line of the unknown kind {0:?}")]
    Kind(String),
    /// This reader does not speak this version.
    #[error("snapshot of version {0}, which is not supported")]
    Version(u32),
    /// A delta starts from other objects than these.
    #[error("delta from {base}, but these are {have}")]
    Base {
        /// What the delta starts from.
        base: String,
        /// What is there.
        have: String,
    },
    /// The objects are not those that the digest names.
    #[error("the stated digest is {stated}, but the objects have {actual}")]
    Digest {
        /// The digest of the sender.
        stated: String,
        /// The digest of the objects.
        actual: String,
    },
}
