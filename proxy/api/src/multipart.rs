//! One bounded pass over a `multipart/form-data` body (RFC 7578): finds the fields that the gateway
//! decides on, with the byte ranges of their values.
//!
//! It reads only what every server reads in the same way: a boundary stands at the start of a line,
//! and a part names itself in one `Content-Disposition`. Everything else is refused.

use std::ops::Range;

use memchr::memmem;

use crate::body::{Body, Bound, Layout, Malformed, Member, Members, malformed, model_name};

#[cfg(test)]
mod tests;

/// Parts taken. The largest form of these APIs has 16 images and about 20 fields.
const MAX_PARTS: usize = 64;
/// Bytes of one part's head: a file name in UTF-8 takes less than 1 KB.
const MAX_HEAD: usize = 8 << 10;

/// The boundary that a `Content-Type` names.
///
/// # Errors
/// It is another type, or its boundary is none that RFC 2046 allows.
pub(crate) fn boundary(content_type: &str) -> Result<&str, Malformed> {
    let mut parts = content_type.split(';').map(str::trim);
    let is_form = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/form-data"));
    let named = parts.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    });
    let mut named = named.map(|value| value.trim_matches('"'));
    let (Some(boundary), None) = (named.next(), named.next()) else {
        return malformed("Content-Type must be multipart/form-data with one boundary");
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    if !is_form || !(1..=70).contains(&boundary.len()) || !boundary.bytes().all(allowed) {
        return malformed("Content-Type must be multipart/form-data with a valid boundary");
    }
    Ok(boundary)
}

/// Scans a body that must be a form with this boundary. With `in_path`, the path names the model, and what
/// the form calls so is only found.
///
/// # Errors
/// [`Malformed`] with a message for the client.
pub(crate) fn body(
    bytes: &[u8],
    boundary: &str,
    members: &Members,
    in_path: bool,
) -> Result<Body, Malformed> {
    let mark = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(&mark);
    // The first boundary has no line before it.
    let opening = mark.trim_start();
    if !bytes.starts_with(opening.as_bytes()) {
        return malformed("the form must begin with its boundary");
    }
    let mut found = Body::new(Layout::Multipart {
        boundary: boundary.into(),
        start: 0,
    });
    let mut met: u64 = 0;
    let mut at = opening.len();
    for _ in 0..MAX_PARTS {
        let rest = bytes.get(at..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix(b"--") {
            if after.is_empty() || after == b"\r\n" {
                return Ok(found);
            }
            return malformed("there is text after the form");
        }
        if !rest.starts_with(b"\r\n") {
            return malformed("a boundary of the form must end its line");
        }
        let head = rest.get(..rest.len().min(MAX_HEAD)).unwrap_or_default();
        let Some(end) = memmem::find(head, b"\r\n\r\n") else {
            return malformed("a part of the form has no end of its head, or one beyond 8 KB");
        };
        let name = field_name(head.get(2..end).unwrap_or_default())?;
        let start = at + end + 4;
        let Some(length) = finder.find(bytes.get(start..).unwrap_or_default()) else {
            return malformed("a part of the form is not closed by its boundary");
        };
        let value = start..start + length;
        at = value.end + mark.len();
        let known = members
            .iter()
            .zip(0..)
            .find(|((known, _), _)| *known == name);
        if let Some(((name, member), place)) = known {
            let bit = 1_u64 << place;
            if met & bit != 0 {
                return malformed(format!("\"{name}\" is given twice"));
            }
            met |= bit;
            if in_path && *member == Member::Model {
                found.model_at = Some(value);
                continue;
            }
            let text = bytes.get(value.clone()).unwrap_or_default();
            field(name, *member, text, value, &mut found)?;
        }
    }
    malformed(format!("the form has more than {MAX_PARTS} parts"))
}

/// The `name` of the one `Content-Disposition: form-data` in a part's head. Refuses what would give a
/// part another name, or its value another text, at some servers: escapes, `name*` and a transfer
/// encoding.
fn field_name(head: &[u8]) -> Result<String, Malformed> {
    let Ok(head) = std::str::from_utf8(head) else {
        return malformed("the head of a part is not valid UTF-8");
    };
    let header = |wanted: &'static str| {
        head.split("\r\n").filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then_some(value)
        })
    };
    let is_plain = |encoding: &str| {
        let plain = ["7bit", "8bit", "binary"];
        plain
            .iter()
            .any(|one| encoding.trim().eq_ignore_ascii_case(one))
    };
    if !header("content-transfer-encoding").all(is_plain) {
        return malformed("a part of the form has a Content-Transfer-Encoding");
    }
    let mut dispositions = header("content-disposition");
    let (Some(disposition), None) = (dispositions.next(), dispositions.next()) else {
        return malformed("each part of the form needs one Content-Disposition");
    };
    let mut rest = disposition.trim_start();
    let mut name = None;
    match rest.split_once(';') {
        Some((kind, parameters)) if kind.trim().eq_ignore_ascii_case("form-data") => {
            rest = parameters;
        }
        Some(_) | None => return malformed("a part of the form is not form-data"),
    }
    while let Some((key, value)) = rest.split_once('=') {
        let Some((text, after)) = quoted(value.trim_start()) else {
            return malformed("a parameter of Content-Disposition is malformed");
        };
        let key = key.trim();
        if key.eq_ignore_ascii_case("name*")
            || key.eq_ignore_ascii_case("name") && text.contains('\\')
        {
            return malformed("the name of a part must be plain text");
        }
        if key.eq_ignore_ascii_case("name") && name.replace(text).is_some() {
            return malformed("a part of the form has two names");
        }
        let after = after.trim_start();
        rest = after.strip_prefix(';').unwrap_or(after);
    }
    match name {
        Some(name) if rest.trim().is_empty() => Ok(name),
        Some(_) | None => malformed("a part of the form has no name"),
    }
}

/// A quoted string or a token, and what follows it. Browsers write `%22` for a quote, other clients a
/// backslash; both read back as they stand, which no name of ours needs.
fn quoted(value: &str) -> Option<(String, &str)> {
    let Some(inner) = value.strip_prefix('"') else {
        let end = value.find([';', ' ']).unwrap_or(value.len());
        let (token, rest) = value.split_at_checked(end)?;
        return (!token.is_empty()).then(|| (token.to_owned(), rest));
    };
    let mut escaped = false;
    for (at, character) in inner.char_indices() {
        match character {
            '"' if !escaped => {
                let (text, rest) = inner.split_at_checked(at)?;
                return Some((text.to_owned(), rest.strip_prefix('"')?));
            }
            _ => escaped = character == '\\' && !escaped,
        }
    }
    None
}

fn field(
    name: &str,
    member: Member,
    text: &[u8],
    range: Range<usize>,
    found: &mut Body,
) -> Result<(), Malformed> {
    let Ok(text) = std::str::from_utf8(text) else {
        return malformed(format!("\"{name}\" is not valid UTF-8"));
    };
    let number = || match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => malformed(format!("\"{name}\" must be a whole number above 0")),
    };
    match member {
        Member::Model => {
            found.model = Some(model_name(text)?);
            found.model_at = Some(range);
        }
        Member::Stream => {
            found.stream = match text {
                "true" | "True" | "1" => true,
                "false" | "False" | "0" | "" => false,
                _ => return malformed(format!("\"{name}\" must be true or false")),
            };
        }
        Member::OutputBound(name) => {
            let tokens = Some(number()?);
            found.bounded(name, Bound { tokens, at: range });
        }
        Member::Choices => found.choices = number()?,
        // No form of these APIs has them.
        Member::StreamOptions
        | Member::StreamFormat
        | Member::DataSources
        | Member::Tools
        | Member::Prompts
        | Member::Inputs
        | Member::Quality
        | Member::Background
        | Member::User(_)
        | Member::PreviousResponse
        | Member::Conversation
        | Member::CacheKey
        | Member::Instructions
        | Member::Messages => {}
    }
    Ok(())
}
