//! What goes wrong between the gateway and a backend.

use http::StatusCode;
use proxy_api::http1::Malformed;
use proxy_core::names::Code;
use proxy_core::reach::OutOfReach;
use proxy_identity::NoToken;

/// Why a try has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing was sent.
    Unreachable,
    /// Nothing was sent, for the installation keeps backends from the address.
    OutOfReach,
    /// Nothing was sent, for the gateway has no descriptor, memory or port left: no fault of the backend.
    Local,
    /// Something was sent, and the connection broke.
    BrokeOff,
    /// No answer in time.
    Timeout,
    /// An answer with a status that is not for clients: a redirect would take their keys elsewhere.
    Stray,
    /// Nothing was sent, for the gateway has no token for the backend.
    NoToken,
    /// The backend refused the gateway's key or token.
    Refused,
}

/// A try without an answer.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) how: Failure,
    /// For the log.
    pub(crate) cause: String,
}

/// A try on one connection, without an answer.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) failed: Failed,
    /// The connection ended, or refused the request, before any byte of an answer.
    pub(super) is_unanswered: bool,
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

// === impl Failure ===

impl Failure {
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Unreachable => Code::UpstreamUnreachable,
            Self::OutOfReach => Code::BackendOutOfReach,
            Self::Local => Code::Overloaded,
            Self::BrokeOff | Self::Stray => Code::UpstreamFailed,
            Self::Timeout => Code::UpstreamTimeout,
            Self::NoToken | Self::Refused => Code::BackendCredentialRefused,
        }
    }

    /// For the client.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::NoToken => "the gateway has no token for the backend",
            Self::Refused => "the backend refuses the gateway's credential",
            Self::Local => {
                "the gateway has no file descriptor or memory left for a call to a backend"
            }
            Self::Timeout => "the backend did not answer in time",
            Self::Unreachable => "the backend cannot be reached",
            Self::OutOfReach => "the backend is at an address where the installation allows none",
            Self::BrokeOff => "the backend broke off before it answered",
            Self::Stray => "the backend gave no answer of its API, but a redirect or the like",
        }
    }
}

// === impl Failed ===

impl Failed {
    /// For the client.
    pub(crate) fn message(&self) -> &str {
        if matches!(self.how, Failure::NoToken | Failure::Refused) {
            &self.cause
        } else {
            self.how.message()
        }
    }

    /// Nothing was sent.
    pub(super) const fn unreachable(cause: String) -> Self {
        let how = Failure::Unreachable;
        Self { how, cause }
    }

    /// Nothing was sent, and nothing will be: the address is closed.
    pub(super) fn out_of_reach(why: &OutOfReach) -> Self {
        Self {
            how: Failure::OutOfReach,
            cause: why.to_string(),
        }
    }

    /// Nothing was sent, for this process lacks something.
    pub(super) const fn local(cause: String) -> Self {
        let how = Failure::Local;
        Self { how, cause }
    }

    /// Something was sent.
    pub(super) const fn broke_off(cause: String) -> Self {
        let how = Failure::BrokeOff;
        Self { how, cause }
    }

    /// The answer began, and was no good.
    pub(crate) fn cut() -> Self {
        Self::broke_off("the answer was cut, empty, or an error within a success".to_owned())
    }

    /// The body went with an earlier try, and is needed again.
    pub(crate) fn given_up() -> Self {
        let cause = "the body is not there for another try: it was too large for a copy, or memory is short";
        Self::local(cause.to_owned())
    }

    /// The client has not sent all of its body: no fault of the backend.
    pub(super) const fn starved(cause: String) -> Self {
        Self::local(cause)
    }

    /// The answer's status is not for clients.
    pub(crate) fn stray(status: StatusCode) -> Self {
        Self {
            how: Failure::Stray,
            cause: format!("the backend answered with status {}", status.as_str()),
        }
    }

    /// The identity of the backend has no token.
    pub(crate) fn no_token(why: &NoToken) -> Self {
        Self {
            how: Failure::NoToken,
            cause: format!("the gateway has no token for the backend: {}", why.word()),
        }
    }

    /// The backend refused the gateway's key or token, and another token too, or there is none. `word` is
    /// the backend's own for it.
    pub(crate) fn refused(word: Option<&str>) -> Self {
        let word = word.map_or_else(String::new, |word| format!(": {word}"));
        Self {
            how: Failure::Refused,
            cause: format!("the backend refuses the gateway's credential{word}"),
        }
    }

    /// Something was sent, and the wait for the answer is over.
    pub(crate) fn timeout() -> Self {
        Self {
            how: Failure::Timeout,
            cause: "no answer in time".to_owned(),
        }
    }
}

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Self {
        lost.failed
    }
}

// === impl Lost ===

impl From<Failed> for Lost {
    fn from(failed: Failed) -> Self {
        Self {
            failed,
            is_unanswered: false,
        }
    }
}
