//! Errors of the channel's reader.

/// Why the reader refuses bytes from the channel or a file.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The key of an entry is of no known form.
    #[error("object {0:?}: not kind/namespace/name of a known kind")]
    Key(String),
    /// The entry does not have the form of its kind.
    #[error("object {key:?}: {reason}")]
    Object {
        /// The entry's key.
        key: String,
        /// The problem; never quotes a credential.
        reason: String,
    },
    /// A line of the channel or a file is malformed.
    #[error("line: {0}")]
    Line(String),
    /// The line has an unknown kind.
    #[error("line of the unknown kind {0:?}")]
    Kind(String),
    /// The snapshot has an unsupported version.
    #[error("snapshot of version {0}, which is not spoken here")]
    Version(u32),
    /// A delta starts from other objects.
    #[error("delta from {base}, but these are {have}")]
    Base {
        /// The digest that the delta starts from.
        base: String,
        /// The digest of the objects.
        have: String,
    },
    /// The digest does not match the objects.
    #[error("digest {stated} was stated, but the objects have {actual}")]
    Digest {
        /// The stated digest.
        stated: String,
        /// The digest of the objects.
        actual: String,
    },
}
