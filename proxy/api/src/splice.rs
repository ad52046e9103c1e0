//! The edits that a body needs for a backend, made at known offsets; all other bytes stay.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::body::{Body, BoundName, Layout, StreamOptions};
use crate::end_user::{EndUser, UserMember};
use crate::pieces::Pieces;

#[cfg(test)]
mod tests;

/// A body up to this size is copied for an edit: a write of several pieces costs more than that.
const COPIED: usize = 64 << 10;

const INCLUDE_USAGE: &str = "\"include_usage\":true";

/// What a backend must find in the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit<'a> {
    /// The deployment as `model`, where the backend reads it from the body.
    pub model: Option<&'a str>,
    /// The wish for usage in `stream_options`, if the answer is a stream.
    pub usage: bool,
    /// The bound on output tokens for a body without one.
    pub default_bound: Option<(BoundName, u64)>,
    /// The most that a bound of the body may be.
    pub max_bound: Option<u64>,
    /// Where ids stand, and how the backend knows them; `None` for what it must not see.
    pub ids: &'a [(Range<usize>, Option<Box<str>>)],
    /// The end user to name, in place of the client's.
    pub end_user: Option<EndUser<'a>>,
}

/// The body to send. Of a large one only the edits are new, and the pieces between them share its memory.
#[must_use]
pub fn splice(bytes: &Bytes, body: &Body, edit: Edit<'_>) -> Pieces {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    match &body.layout {
        Layout::Json { start, empty } => json(body, edit, *start, *empty, &mut edits),
        Layout::Any => {}
        Layout::Multipart { boundary, start } => form(body, edit, boundary, *start, &mut edits),
    }
    if edits.is_empty() {
        return bytes.clone().into();
    }
    edits.sort_unstable_by_key(|(range, _)| range.start);
    // What stands within something that is replaced goes with it.
    let mut end = 0;
    edits.retain(|(range, _)| {
        let is_apart = range.start >= end;
        end = end.max(range.end);
        is_apart
    });
    if bytes.len() > COPIED {
        return pieces(bytes, edits);
    }
    let mut out = BytesMut::with_capacity(bytes.len().saturating_add(128));
    let mut at = 0;
    for (range, text) in edits {
        out.extend_from_slice(bytes.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        at = range.end;
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    out.freeze().into()
}

/// A field that is new is a part before all others.
fn form(
    body: &Body,
    edit: Edit<'_>,
    boundary: &str,
    start: usize,
    edits: &mut Vec<(Range<usize>, String)>,
) {
    let mut put = |name: &str, value: &str, at: &Option<Range<usize>>| match at {
        Some(range) => edits.push((range.clone(), value.to_owned())),
        None => edits.push((
            start..start,
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ),
        )),
    };
    if let Some(model) = edit.model.filter(|model| !is_named(body, model)) {
        put("model", model, &body.model_at);
    }
    if let Some(EndUser { id, added }) = edit.end_user {
        let user = UserMember::User;
        if !body.users.lacks(user) || added.has(user) {
            put(user.as_str(), id, &body.users.user);
        }
    }
}

fn pieces(bytes: &Bytes, edits: Vec<(Range<usize>, String)>) -> Pieces {
    let mut at = 0;
    let mut pieces = Vec::with_capacity(edits.len() * 2 + 1);
    for (range, text) in edits {
        pieces.extend([bytes.slice(at..range.start.max(at)), Bytes::from(text)]);
        at = range.end;
    }
    pieces.push(bytes.slice(at..));
    pieces.into_iter().collect()
}

fn json(
    body: &Body,
    edit: Edit<'_>,
    start: usize,
    empty: bool,
    edits: &mut Vec<(Range<usize>, String)>,
) {
    // What is inserted as a first member needs a comma, unless it is the only one.
    let mut inserted: Vec<String> = Vec::new();
    match (edit.model, &body.model_at) {
        (Some(model), Some(_)) if is_named(body, model) => {}
        (Some(model), Some(range)) => edits.push((range.clone(), quoted(model))),
        (Some(model), None) => inserted.push(format!("\"model\":{}", quoted(model))),
        (None, _) => {}
    }
    if body.stream && edit.usage {
        match &body.stream_options {
            StreamOptions::UsageOn => {}
            StreamOptions::UsageOff(range) => edits.push((range.clone(), "true".to_owned())),
            StreamOptions::Null(range) => {
                edits.push((range.clone(), format!("{{{INCLUDE_USAGE}}}")));
            }
            StreamOptions::WithoutUsage { start, empty } => {
                let comma = if *empty { "" } else { "," };
                edits.push((*start..*start, format!("{INCLUDE_USAGE}{comma}")));
            }
            StreamOptions::Absent => {
                inserted.push(format!("\"stream_options\":{{{INCLUDE_USAGE}}}"));
            }
        }
    }
    let ids = edit.ids.iter();
    edits.extend(ids.map(|(at, id)| (at.clone(), id.as_deref().map_or_else(String::new, quoted))));
    let stated = body.bounds.iter().flatten();
    if let Some(max) = edit.max_bound {
        let larger = stated.filter(|bound| bound.tokens.is_some_and(|tokens| tokens > max));
        edits.extend(larger.map(|bound| (bound.at.clone(), max.to_string())));
    }
    if let Some((name, tokens)) = edit.default_bound
        && body.max_output_tokens().is_none()
    {
        match body.bound(name) {
            Some(null) => edits.push((null.at.clone(), tokens.to_string())),
            None => inserted.push(format!("\"{}\":{tokens}", name.as_str())),
        }
    }
    if let Some(end_user) = edit.end_user {
        body.users.edits(end_user, edits, &mut inserted);
    }
    if !inserted.is_empty() {
        let comma = if empty { "" } else { "," };
        edits.push((start..start, format!("{}{comma}", inserted.join(","))));
    }
}

/// Whether the body already names this model.
fn is_named(body: &Body, model: &str) -> bool {
    body.model.as_deref() == Some(model)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
