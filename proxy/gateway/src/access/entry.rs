//! What one line of the access log says.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use proxy_core::names::Class;
use proxy_core::quota::LimitName;

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// The end of the request, in microseconds since the Unix epoch.
    pub(crate) unix_micros: i64,
    /// A word of letters, digits, `-`, `_` and `.`: see `intake::request_id`.
    pub(crate) request_id: &'a str,
    /// The fields of a [`Head`], as [`super::head`] writes them.
    pub(crate) head: &'a [u8],
    pub(crate) dialect: Option<&'static str>,
    pub(crate) operation: Option<&'static str>,
    pub(crate) model: Option<&'a str>,
    pub(crate) consumer: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) class: Class,
    pub(crate) backend: Option<&'a str>,
    pub(crate) deployment: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    /// The limit that refused.
    pub(crate) limit: Option<&'a LimitName>,
    /// The limits in mode `Shadow` that would have refused.
    pub(crate) shadow_limits: &'a [LimitName],
    pub(crate) stream: bool,
    /// What was reserved, input and output.
    pub(crate) held_tokens: Option<[u64; 2]>,
    pub(crate) input_tokens: u64,
    pub(crate) cached_input_tokens: u64,
    pub(crate) cache_write_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) reasoning_tokens: u64,
    pub(crate) cost_micros: Option<u64>,
    /// Something was used that has no price.
    pub(crate) unpriced: bool,
    pub(crate) estimated: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) tries: u8,
    /// Each try, if there is more to say than the rest of the line does: one failed.
    pub(crate) attempts: &'a [Attempt],
    /// The name that the backend gave the call; empty if it gave none.
    pub(crate) upstream_id: &'a [u8],
    pub(crate) upstream_ms: Option<u64>,
    pub(crate) first_byte_ms: Option<u64>,
    pub(crate) duration_ms: u64,
}

/// The head of a request, and who sent it. Without a method nothing of it could be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) client: IpAddr,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) user_agent: &'a [u8],
}

/// One try of a request.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// `namespace/name` of the backend.
    pub(crate) backend: Arc<str>,
    pub(crate) deployment: Arc<str>,
    /// Of the answer, if one came.
    pub(crate) status: Option<u16>,
    /// Why it was not the answer to the client: a word of docs/errors.md, or `upstream_error`.
    pub(crate) cause: Option<&'static str>,
    /// What the system or the peer said.
    pub(crate) error: Option<Box<str>>,
    /// From its begin to the head of its answer, or to its failure.
    pub(crate) millis: u64,
}

/// The most that a line says of one failure, in bytes.
const ERROR_BYTES: usize = 200;

// === impl Attempt ===

impl Attempt {
    /// What of a failure's text goes into the line.
    pub(crate) fn bounded(error: &str) -> Box<str> {
        let end = error.floor_char_boundary(ERROR_BYTES);
        error.get(..end).unwrap_or_default().into()
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.backend, self.deployment)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if let Some(cause) = self.cause {
            write!(f, " {cause}")?;
        }
        if let Some(error) = &self.error {
            write!(f, " ({error})")?;
        }
        write!(f, " {} ms", self.millis)
    }
}
