//! The parsers of foreign bytes as functions, for fuzzing. Not part of the gateway's interface.

use bytes::Bytes;
use proxy_core::names::{Operation, Usage};

use crate::upstream::Call;
use crate::{dialect, prompt, scan, splice, sse};

/// Whether the scanner takes this body.
#[must_use]
pub fn scan_body(body: &[u8]) -> bool {
    scan::body(body).is_ok()
}

/// The body as it goes to a backend that reads the deployment from it; `None` if it is refused.
#[must_use]
pub fn splice_body(body: &[u8], deployment: &str) -> Option<Vec<u8>> {
    let scanned = scan::body(body).ok()?;
    let call = Call::to("/", true, true);
    let bytes = Bytes::copy_from_slice(body);
    Some(splice::splice(&bytes, &scanned, &call, deployment).to_vec())
}

/// What came of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// What goes on to the client.
    pub bytes: Vec<u8>,
    /// The usage, if the stream told it.
    pub usage: Option<Usage>,
    /// Output tokens counted from the deltas.
    pub counted: u64,
    /// Whether `[DONE]` was seen.
    pub done: bool,
}

/// Watches a stream that arrives in these chunks; `strip` takes the usage chunk out.
#[must_use]
pub fn watch_stream(chunks: &[&[u8]], strip: bool) -> Watched {
    let mut stream = sse::Stream::new(strip);
    let mut bytes = Vec::new();
    for chunk in chunks {
        bytes.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    bytes.extend_from_slice(&stream.finish());
    Watched {
        bytes,
        usage: stream.usage(),
        counted: stream.counted_output(),
        done: stream.is_done(),
    }
}

/// Whether an API is served at this path.
#[must_use]
pub fn read_path(path: &str) -> bool {
    dialect::target(path).is_ok()
}

/// The input tokens of a body, as they are counted for an estimate.
#[must_use]
pub fn count_prompt(body: &[u8], operation: Operation, model: &str, budget: u64) -> Option<u64> {
    prompt::count(body, operation, model, budget)
}
