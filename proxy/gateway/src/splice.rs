//! The edits that a body needs for a backend, made at known offsets; all other bytes stay.

use bytes::{Bytes, BytesMut};

use crate::scan::{Body, StreamOptions};
use crate::upstream::Call;

#[cfg(test)]
mod tests;

const INCLUDE_USAGE: &str = "\"include_usage\":true";

impl Body {
    /// Whether the client itself asked for the usage of its stream.
    pub(crate) fn asks_usage(&self) -> bool {
        self.stream_options == StreamOptions::UsageOn
    }
}

/// The body to send: with the deployment as `model` where the backend reads it from the body, and
/// with `stream_options.include_usage` for a stream whose client did not ask for it.
pub(crate) fn splice(bytes: &Bytes, scanned: &Body, call: &Call, deployment: &str) -> Bytes {
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    // What is inserted as a first member needs a comma, unless it is the only one.
    let mut inserted: Vec<String> = Vec::new();
    if call.model_in_body {
        match &scanned.model {
            Some((model, _)) if **model == *deployment => {}
            Some((_, range)) => edits.push((range.start, range.end, quoted(deployment))),
            None => inserted.push(format!("\"model\":{}", quoted(deployment))),
        }
    }
    if scanned.stream && call.takes_stream_options {
        match &scanned.stream_options {
            StreamOptions::UsageOn => {}
            StreamOptions::UsageOff(range) => {
                edits.push((range.start, range.end, "true".to_owned()));
            }
            StreamOptions::Null(range) => {
                edits.push((range.start, range.end, format!("{{{INCLUDE_USAGE}}}")));
            }
            StreamOptions::WithoutUsage { start, empty } => {
                let comma = if *empty { "" } else { "," };
                edits.push((*start, *start, format!("{INCLUDE_USAGE}{comma}")));
            }
            StreamOptions::Absent => {
                inserted.push(format!("\"stream_options\":{{{INCLUDE_USAGE}}}"));
            }
        }
    }
    if !inserted.is_empty() {
        let comma = if scanned.empty { "" } else { "," };
        edits.push((
            scanned.start,
            scanned.start,
            format!("{}{comma}", inserted.join(",")),
        ));
    }
    if edits.is_empty() {
        return bytes.clone();
    }
    edits.sort_unstable_by_key(|(start, ..)| *start);
    let mut out = BytesMut::with_capacity(bytes.len().saturating_add(128));
    let mut at = 0;
    for (start, end, text) in edits {
        out.extend_from_slice(bytes.get(at..start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        at = end;
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    out.freeze()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
