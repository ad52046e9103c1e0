//! One bounded pass over a JSON request body: finds the members that the gateway decides on, with
//! their byte ranges, and builds nothing.
//!
//! The body that goes upstream is the client's own bytes, so the scanner must read it as every
//! backend would: duplicates of a decided member, invalid UTF-8, deep nesting and broken grammar
//! are refused, and names and strings are unescaped before they are compared.

use std::num::NonZeroUsize;

use crate::body::{
    Body, Bound, DEAREST_IMAGE, Kept, Layout, Malformed, Member, Members, Reference, StreamOptions,
    image_tokens, malformed, model_name, refuse_folded,
};
use crate::end_user::{Metadata, UserMember};
use crate::json::Cursor;
use crate::mentions::{is_like, may_be};
use crate::references;

#[cfg(test)]
mod tests;

/// Smallest body whose prompt may be cached: from 1,024 tokens on, of some four bytes.
const CACHED: usize = 4 << 10;

const INCLUDE_USAGE: &str = "include_usage";
const USER_ID: &str = "user_id";

/// Scans a body that must be one JSON object. With `in_path`, the path names the model, and what the body
/// calls so is only found: clients send anything there, and Azure ignores it.
///
/// # Errors
/// [`Malformed`] with a message for the client.
pub(crate) fn body(bytes: &[u8], members: &Members, in_path: bool) -> Result<Body, Malformed> {
    if simdutf8::basic::from_utf8(bytes).is_err() {
        return malformed("the body is not valid UTF-8");
    }
    let mut cursor = Cursor::new(bytes);
    cursor.seeks_controls = has_controls(bytes);
    cursor.blanks();
    if cursor.peek() != Some(b'{') {
        return malformed("the body must be a JSON object");
    }
    let layout = Layout::Json {
        start: cursor.at,
        empty: true,
    };
    let mut found = Body::new(layout);
    // One bit for each member that was met; a row has fewer than 64.
    let mut met: u64 = 0;
    let (start, empty) = cursor.object(1, |cursor, name, depth| {
        let known = members
            .iter()
            .zip(0..)
            .find(|((known, _), _)| known.as_bytes() == name);
        let Some(((name, member), place)) = known else {
            refuse_folded(name, members.iter().map(|(known, _)| *known))?;
            let first = name.first().copied().unwrap_or_default();
            cursor.met_mention |= may_be(first, name.len()) && is_like(name);
            return cursor.skip(depth);
        };
        let bit = 1_u64 << place;
        if met & bit != 0 {
            return malformed(format!("\"{name}\" is given twice"));
        }
        met |= bit;
        if in_path && *member == Member::Model {
            let start = cursor.at;
            cursor.skip(depth)?;
            found.model_at = Some(start..cursor.at);
            return Ok(());
        }
        field(cursor, name, *member, depth, &mut found)
    })?;
    found.has_media = cursor.met_media;
    found.has_item_references = cursor.met_item_reference;
    if found.image_tokens.is_none() && members.iter().any(|one| one.1 == Member::Quality) {
        found.image_tokens = Some(DEAREST_IMAGE);
    }
    found.layout = Layout::Json { start, empty };
    cursor.blanks();
    if cursor.at != bytes.len() {
        return malformed("there is text after the JSON object");
    }
    if cursor.met_mention {
        references::find(bytes, &mut found)?;
    }
    Ok(found)
}

/// One look over the whole: most clients write no line feed either. As a minimum, which the compiler finds
/// for many bytes at once.
fn has_controls(bytes: &[u8]) -> bool {
    bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' '
}

fn field(
    cursor: &mut Cursor<'_>,
    name: &str,
    member: Member,
    depth: usize,
    found: &mut Body,
) -> Result<(), Malformed> {
    match member {
        Member::Model => {
            let start = cursor.at;
            if cursor.peek() != Some(b'"') {
                return malformed(format!("\"{name}\" must be a string"));
            }
            let text = cursor.string()?;
            found.model = Some(model_name(&text)?);
            found.model_at = Some(start..cursor.at);
        }
        Member::Stream => found.stream = flag(cursor, depth, name)?,
        Member::StreamOptions => found.stream_options = stream_options(cursor, depth)?,
        Member::StreamFormat => found.stream = cursor.scalar(depth)? == b"\"sse\"",
        Member::OutputBound(bound) => {
            let start = cursor.at;
            let tokens = integer(cursor, depth, name)?;
            let at = start..cursor.at;
            found.bounded(bound, Bound { tokens, at });
        }
        Member::Choices => {
            if let Some(choices) = integer(cursor, depth, name)? {
                found.choices = found.choices.max(choices);
            }
        }
        Member::Prompts => {
            found.prompts = texts(cursor, depth)?;
            found.texts = found.prompts;
        }
        Member::Inputs => found.texts = texts(cursor, depth)?,
        Member::Quality => {
            let quality = str::from_utf8(cursor.scalar(depth)?).unwrap_or_default();
            found.image_tokens = Some(image_tokens(quality.trim_matches('"')));
        }
        Member::Background => found.background = flag(cursor, depth, name)?,
        Member::PreviousResponse => {
            let reference = reference(cursor, depth, name, Kept::Response)?;
            found.references.extend(reference);
        }
        Member::Conversation => {
            let reference = if cursor.peek() == Some(b'{') {
                conversation(cursor, depth, name)?
            } else {
                reference(cursor, depth, name, Kept::Conversation)?
            };
            found.references.extend(reference);
        }
        Member::Parts => parts(cursor, depth, name, found)?,
        Member::Tools => {
            found.has_tools = !matches!(cursor.scalar(depth)?, b"null" | b"[]");
        }
        Member::User(member) => {
            let start = cursor.at;
            match member {
                UserMember::User => {
                    cursor.skip(depth)?;
                    found.users.user = Some(start..cursor.at);
                }
                UserMember::SafetyIdentifier => {
                    cursor.skip(depth)?;
                    found.users.safety_identifier = Some(start..cursor.at);
                }
                UserMember::Metadata => found.users.metadata = metadata(cursor, depth)?,
            }
        }
        Member::DataSources => {
            cursor.skip(depth)?;
            found.has_data_sources = true;
        }
        Member::Agent => no_agent(cursor, depth, name)?,
        Member::CacheKey => {
            let is_text = cursor.peek() == Some(b'"');
            found.beginning.cache_key = place(cursor, depth)?.filter(|_| is_text);
        }
        Member::Instructions => found.beginning.instructions = prompt(cursor, depth)?,
        Member::Messages => found.beginning.messages = prompt(cursor, depth)?,
    }
    Ok(())
}

/// Nothing: an agent of a project has a model of its own, which no rule has admitted.
fn no_agent(cursor: &mut Cursor<'_>, depth: usize, name: &str) -> Result<(), Malformed> {
    if cursor.scalar(depth)? == b"null" {
        return Ok(());
    }
    malformed(format!(
        "\"{name}\" is not served: an agent has a model of its own; leave it out"
    ))
}

/// Where a value begins.
fn place(cursor: &mut Cursor<'_>, depth: usize) -> Result<Option<NonZeroUsize>, Malformed> {
    let start = cursor.at;
    cursor.skip(depth)?;
    Ok(NonZeroUsize::new(start))
}

/// The same of a part of a prompt, if the body is as large as one that is cached.
fn prompt(cursor: &mut Cursor<'_>, depth: usize) -> Result<Option<NonZeroUsize>, Malformed> {
    let is_cached = cursor.bytes.len() >= CACHED;
    Ok(place(cursor, depth)?.filter(|_| is_cached))
}

fn flag(cursor: &mut Cursor<'_>, depth: usize, name: &str) -> Result<bool, Malformed> {
    match cursor.scalar(depth)? {
        b"true" => Ok(true),
        b"false" | b"null" => Ok(false),
        _ => malformed(format!("\"{name}\" must be true or false")),
    }
}

/// The id of what a backend keeps, or `null`.
fn reference(
    cursor: &mut Cursor<'_>,
    depth: usize,
    name: &str,
    kept: Kept,
) -> Result<Option<Reference>, Malformed> {
    let start = cursor.at;
    if cursor.peek() == Some(b'"') {
        let id = cursor.string()?.into();
        let at = start..cursor.at;
        let place = name.into();
        return Ok(Some(Reference {
            kept,
            id,
            at,
            place,
        }));
    }
    match cursor.scalar(depth)? {
        b"null" => Ok(None),
        _ => malformed(format!("\"{name}\" must be an id")),
    }
}

/// The ids of the parts of an upload.
fn parts(
    cursor: &mut Cursor<'_>,
    depth: usize,
    name: &str,
    found: &mut Body,
) -> Result<(), Malformed> {
    if cursor.peek() != Some(b'[') {
        return malformed(format!("\"{name}\" must be a list of ids"));
    }
    cursor.array(depth + 1, |cursor, depth| {
        let reference = reference(cursor, depth, name, Kept::Part)?;
        found.references.extend(reference);
        Ok(())
    })
}

/// A conversation as an object with its `id`.
fn conversation(
    cursor: &mut Cursor<'_>,
    depth: usize,
    name: &str,
) -> Result<Option<Reference>, Malformed> {
    const ID: &str = "id";
    let mut found = None;
    cursor.object(depth + 1, |cursor, member, depth| {
        if member != ID.as_bytes() {
            refuse_folded(member, [ID])?;
            return cursor.skip(depth);
        }
        if found.is_some() {
            return malformed(format!("\"{name}.{ID}\" is given twice"));
        }
        found = reference(cursor, depth, name, Kept::Conversation)?;
        Ok(())
    })?;
    match found {
        Some(_) => Ok(found),
        None => malformed(format!("\"{name}.{ID}\" is missing")),
    }
}

fn metadata(cursor: &mut Cursor<'_>, depth: usize) -> Result<Metadata, Malformed> {
    let start = cursor.at;
    if cursor.peek() != Some(b'{') {
        cursor.skip(depth)?;
        return Ok(Metadata::NoObject(start..cursor.at));
    }
    let mut user = None;
    let (start, empty) = cursor.object(depth + 1, |cursor, name, depth| {
        if name != USER_ID.as_bytes() {
            refuse_folded(name, [USER_ID])?;
            return cursor.skip(depth);
        }
        if user.is_some() {
            return malformed("\"metadata.user_id\" is given twice");
        }
        let start = cursor.at;
        cursor.skip(depth)?;
        user = Some(Metadata::User(start..cursor.at));
        Ok(())
    })?;
    Ok(user.unwrap_or(Metadata::WithoutUser { start, empty }))
}

/// How many texts a value has: a string, several, the tokens of one, or the tokens of several.
fn texts(cursor: &mut Cursor<'_>, depth: usize) -> Result<u64, Malformed> {
    if cursor.peek() != Some(b'[') {
        cursor.skip(depth)?;
        return Ok(1);
    }
    let mut texts: u64 = 0;
    cursor.array(depth + 1, |cursor, depth| {
        if matches!(cursor.peek(), Some(b'"' | b'[')) {
            texts += 1;
        }
        cursor.skip(depth)
    })?;
    Ok(texts.max(1))
}

fn integer(cursor: &mut Cursor<'_>, depth: usize, name: &str) -> Result<Option<u64>, Malformed> {
    let text = cursor.scalar(depth)?;
    if text == b"null" {
        return Ok(None);
    }
    let parsed = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    match parsed {
        Some(number) if number > 0 => Ok(Some(number)),
        _ => malformed(format!("\"{name}\" must be a whole number above 0")),
    }
}

fn stream_options(cursor: &mut Cursor<'_>, depth: usize) -> Result<StreamOptions, Malformed> {
    let start = cursor.at;
    if cursor.peek() != Some(b'{') {
        return match cursor.scalar(depth)? {
            b"null" => Ok(StreamOptions::Null(start..cursor.at)),
            _ => malformed("\"stream_options\" must be an object"),
        };
    }
    let mut usage = None;
    let (start, empty) = cursor.object(depth + 1, |cursor, name, depth| {
        if name != INCLUDE_USAGE.as_bytes() {
            refuse_folded(name, [INCLUDE_USAGE])?;
            return cursor.skip(depth);
        }
        if usage.is_some() {
            return malformed("\"stream_options.include_usage\" is given twice");
        }
        let start = cursor.at;
        usage = Some(match cursor.scalar(depth)? {
            b"true" => StreamOptions::UsageOn,
            b"false" | b"null" => StreamOptions::UsageOff(start..cursor.at),
            _ => return malformed("\"stream_options.include_usage\" must be true or false"),
        });
        Ok(())
    })?;
    Ok(usage.unwrap_or(StreamOptions::WithoutUsage { start, empty }))
}
