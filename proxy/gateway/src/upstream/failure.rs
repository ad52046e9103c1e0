//! What goes wrong between the gateway and a backend.

use proxy_core::names::Code;

/// Why a try has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing was sent.
    Unreachable,
    /// Something was sent, and the connection broke.
    BrokeOff,
    /// No answer in time.
    Timeout,
}

/// A try without an answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) how: Failure,
    /// For the log.
    pub(crate) cause: String,
}

/// Why the body of an answer ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// What came is no HTTP/1.1.
    #[error("the answer is malformed")]
    Malformed(#[from] Malformed),
    /// The stream or its connection broke.
    #[error("the stream broke")]
    Http2(#[from] hyper::Error),
}

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

// === impl Failure ===

impl Failure {
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Unreachable => Code::UpstreamUnreachable,
            Self::BrokeOff => Code::UpstreamFailed,
            Self::Timeout => Code::UpstreamTimeout,
        }
    }
}

// === impl Failed ===

impl Failed {
    /// Nothing was sent.
    pub(super) const fn unreachable(cause: String) -> Self {
        let how = Failure::Unreachable;
        Self { how, cause }
    }

    /// Something was sent.
    pub(super) const fn broke_off(cause: String) -> Self {
        let how = Failure::BrokeOff;
        Self { how, cause }
    }

    /// Something was sent, and the wait for the answer is over.
    pub(super) fn timeout() -> Self {
        Self {
            how: Failure::Timeout,
            cause: "no answer in time".to_owned(),
        }
    }
}
