//! Paths and queries: what is ambiguous in them, and how their parts are encoded.

use std::borrow::Cow;

use memchr::memchr;

#[cfg(test)]
mod tests;

/// What stands in a path for the names in braces of its row, still percent-encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segments<'p> {
    pub(crate) model: Option<&'p str>,
    pub(crate) project: Option<&'p str>,
    pub(crate) id: Option<&'p str>,
    pub(crate) item: Option<&'p str>,
}

/// The named segments of a path; `None` if it does not have the shape.
pub(crate) fn matched<'p>(shape: &str, path: &'p str) -> Option<Segments<'p>> {
    let mut found = Segments::default();
    // One brace is enough to look for: a search for a whole word costs more than the comparison.
    let Some(at) = memchr(b'{', shape.as_bytes()) else {
        return (shape == path).then_some(found);
    };
    // Most paths differ before the first name.
    let rest = path.strip_prefix(shape.get(..at)?)?;
    let mut segments = rest.split('/');
    for expected in shape.get(at..)?.split('/') {
        let segment = segments.next()?;
        let named = match expected {
            "{model}" => &mut found.model,
            "{project}" => &mut found.project,
            "{id}" => &mut found.id,
            "{item}" => &mut found.item,
            _ if segment == expected => continue,
            _ => return None,
        };
        *named = Some(segment).filter(|segment| !segment.is_empty());
        (*named)?;
    }
    segments.next().is_none().then_some(found)
}

/// Whether servers may read a path differently: dot segments, encoded separators, parameters and control
/// characters. A rule that matches such a path would not hold behind us.
pub(crate) fn is_ambiguous(path: &str) -> bool {
    let segments = path.split('/').skip(1);
    for segment in segments {
        let Some(decoded) = decode(segment) else {
            return true;
        };
        if matches!(&*decoded, "." | "..") {
            return true;
        }
    }
    path.bytes()
        .any(|byte| matches!(byte, b';' | b'\\' | 0..=0x20 | 0x7f..))
}

/// Percent-decodes one segment; `None` if it is invalid or hides a separator or a control
/// character. A model name with an encoded slash is the exception that clients need.
pub(crate) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains('\\') && !text.contains(char::is_control)).then_some(Cow::Owned(text))
}

/// A query parameter is malformed or given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadParameter;

/// The value of a query parameter, percent-decoded.
///
/// # Errors
/// [`BadParameter`].
pub fn parameter(query: &str, wanted: &str) -> Result<Option<String>, BadParameter> {
    let mut found = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(name).is_some_and(|name| name == wanted) {
            if found.is_some() {
                return Err(BadParameter);
            }
            found = Some(decode(value).ok_or(BadParameter)?.into_owned());
        }
    }
    Ok(found)
}

/// Percent-encodes one path segment: everything but unreserved characters (RFC 3986, 2.3).
#[must_use]
pub fn encode(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => {
                text.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(nibble), 16).unwrap_or('0');
                    text.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    text
}
