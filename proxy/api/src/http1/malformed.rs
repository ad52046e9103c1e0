//! Why an answer is refused.

/// Why bytes are no answer on HTTP/1.1. Each is a place where two readers could disagree about where an
/// answer ends, or a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not `HTTP/1.0` or `HTTP/1.1`.
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// More than 64 KiB or 100 headers.
    #[error("the head is too large")]
    HeadTooLarge,
    /// A line feed without a carriage return.
    #[error("a line of the head ends in a bare line feed")]
    BareLineFeed,
    /// A header or the status is not as the grammar has it.
    #[error("the head is not well-formed")]
    Head,
    /// More interim answers than any backend has a reason for.
    #[error("too many interim answers")]
    TooManyInterim,
    /// Status 101, which the gateway did not ask for.
    #[error("an upgrade that was not asked for")]
    Upgrade,
    /// `Content-Length` twice, or not a plain number.
    #[error("the content length is ambiguous")]
    Length,
    /// A transfer coding other than `chunked`, or where there must be none.
    #[error("the transfer coding is not chunked")]
    TransferCoding,
    /// A length and a transfer coding.
    #[error("both a content length and a transfer coding")]
    TwoLengths,
    /// A body where the status allows none.
    #[error("a body where the status allows none")]
    Bodiless,
    /// The size of a chunk, or the line of it.
    #[error("the size of a chunk is not well-formed")]
    ChunkSize,
    /// The data of a chunk are not followed by a line end.
    #[error("a chunk is longer than its size")]
    ChunkEnd,
    /// More than 1 KiB of extensions in one line.
    #[error("the extensions of a chunk are too long")]
    Extensions,
    /// Trailers that are no headers, or more than 8 KiB of them.
    #[error("the trailers are not well-formed")]
    Trailers,
    /// The connection was closed before the end of the answer.
    #[error("the answer was cut short")]
    Truncated,
}
