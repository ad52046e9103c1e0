//! One bounded pass over a `multipart/form-data` body (RFC 7578): finds the fields that the gateway
//! decides on, with the byte ranges of their values.
//!
//! It reads only what every server reads in the same way: a boundary stands at the start of a line,
//! and a part names itself in one `Content-Disposition`. Everything else is refused.

use std::ops::Range;

use memchr::memmem::{self, Finder};

use crate::body::{
    Body, Bound, DEAREST_IMAGE, Files, Layout, Malformed, Member, Members, image_tokens, malformed,
    model_name, refuse_folded,
};
use crate::end_user::UserMember;
use crate::files::MOST_IMAGES;
use crate::mentions::{Mention, mention, names};

#[cfg(test)]
mod tests;

/// Parts taken. The largest form of these APIs has 16 images and about 20 fields.
const MAX_PARTS: usize = 64;
/// Bytes of one part's head: a file name in UTF-8 takes less than 1 KB.
const MAX_HEAD: usize = 8 << 10;
/// Bytes of a field that is read: all of them are words and numbers.
const MAX_FIELD: usize = 64 << 10;

const NO_BEGINNING: &str = "the form must begin with its boundary";

/// Whether a `Content-Type` is that of a form, whatever parameters it has.
pub(crate) fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("multipart/form-data")
}

/// The boundary that a `Content-Type` names.
///
/// # Errors
/// It is another type, or its boundary is none that RFC 2046 allows.
pub(crate) fn boundary(content_type: &str) -> Result<&str, Malformed> {
    let mut parts = content_type.split(';').map(str::trim);
    let is_form = parts.next().is_some_and(is_form);
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
    members: &'static Members,
    in_path: bool,
) -> Result<Body, Malformed> {
    let mut scan = FormScan::new(boundary, members, in_path);
    scan.push(bytes)?;
    scan.finish()
}

/// A pass over a form whose bytes come one after the other. Holds no more of it than the head of a part, or a
/// field that is read.
#[derive(Debug)]
pub struct FormScan {
    members: &'static Members,
    in_path: bool,
    /// What ends a part: a line, the dashes and the boundary.
    mark: Finder<'static>,
    state: State,
    /// What came and is not decided yet, and where in the form it begins.
    held: Vec<u8>,
    at: usize,
    parts: usize,
    /// One bit for each member that was met.
    met: u64,
    /// What decides is known, and must not change.
    is_sealed: bool,
    found: Body,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first boundary, which has no line before it.
    Opening,
    /// What follows a boundary: the end of its line, or the end of the form.
    Boundary,
    /// A part's head.
    Head,
    /// The value of a field that is read.
    Field(&'static str, Member),
    /// A value that is not, and where it begins.
    Skipped { start: usize, is_file: bool },
    /// What follows the form: a line end at most.
    End,
}

impl FormScan {
    pub(crate) fn new(boundary: &str, members: &'static Members, in_path: bool) -> Self {
        let mark = format!("\r\n--{boundary}");
        Self {
            members,
            in_path,
            mark: Finder::new(&mark).into_owned(),
            state: State::Opening,
            held: Vec::new(),
            at: 0,
            parts: 0,
            met: 0,
            is_sealed: false,
            found: Body::new(Layout::Multipart {
                boundary: boundary.into(),
                start: 0,
            }),
        }
    }

    /// Whether a file has begun.
    #[must_use]
    pub const fn has_file(&self) -> bool {
        self.found.files.count > 0
    }

    /// Whether the model is known, if a field must name it.
    #[must_use]
    pub const fn has_model(&self) -> bool {
        self.in_path || self.found.model.is_some()
    }

    /// What a form of `size` bytes says of itself, if no field that is read follows: one that does is refused.
    pub fn seal(&mut self, size: u64) -> Body {
        self.is_sealed = true;
        let mut found = self.found.clone();
        found.files = Files {
            count: MOST_IMAGES,
            bytes: size,
            ..found.files
        };
        if self.has_quality() {
            found.image_tokens.get_or_insert(DEAREST_IMAGE);
        }
        found
    }

    fn has_quality(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|(_, member)| *member == Member::Quality)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Malformed`] with a message for the client.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.held.is_empty() {
            let taken = self.take(bytes)?;
            self.held
                .extend_from_slice(bytes.get(taken..).unwrap_or_default());
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let taken = self.take(&held)?;
        held.drain(..taken.min(held.len()));
        self.held = held;
        Ok(())
    }

    /// Ends the form.
    ///
    /// # Errors
    /// [`Malformed`] with a message for the client.
    pub fn finish(self) -> Result<Body, Malformed> {
        match self.state {
            State::End if self.held.is_empty() || self.held == b"\r\n" => Ok(self.found),
            State::End => malformed("there is text after the form"),
            State::Opening => malformed(NO_BEGINNING),
            State::Boundary | State::Head => malformed("the form ends within a part's head"),
            State::Field(..) | State::Skipped { .. } => {
                malformed("a part of the form is not closed by its boundary")
            }
        }
    }

    /// Takes as much of these bytes as can be decided. Returns how much that is.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let begin = self.at;
        let mut from = 0;
        while let Some(taken) = self.step(bytes.get(from..).unwrap_or_default())? {
            from += taken;
            self.at = begin + from;
        }
        // Of a skipped value nothing is kept but what may be the beginning of a boundary.
        if let State::Skipped { .. } = self.state {
            let rest = bytes.len() - from;
            from += rest.saturating_sub(self.mark.needle().len() - 1);
        }
        self.at = begin + from;
        Ok(from)
    }

    /// Takes the next thing of the form. `None`: more bytes are needed.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        match self.state {
            State::Opening => {
                let opening = self.mark.needle().get(2..).unwrap_or_default();
                if bytes.starts_with(opening) {
                    self.state = State::Boundary;
                    return Ok(Some(opening.len()));
                }
                if opening.starts_with(bytes) {
                    return Ok(None);
                }
                malformed(NO_BEGINNING)
            }
            State::Boundary => self.after_boundary(bytes),
            State::Head => self.head(bytes),
            State::Field(name, member) => {
                let Some(length) = self.mark.find(bytes) else {
                    if bytes.len() > MAX_FIELD {
                        return malformed(format!("\"{name}\" is longer than 64 KB"));
                    }
                    return Ok(None);
                };
                let text = bytes.get(..length).unwrap_or_default();
                let range = self.at..self.at + length;
                if self.in_path && member == Member::Model {
                    self.found.model_at = Some(range);
                } else {
                    field(name, member, text, range, &mut self.found)?;
                }
                Ok(Some(self.closed(length)))
            }
            State::Skipped { start, is_file } => {
                let Some(length) = self.mark.find(bytes) else {
                    return Ok(None);
                };
                let size = u64::try_from(self.at + length - start).unwrap_or(u64::MAX);
                let files = &mut self.found.files;
                *(if is_file {
                    &mut files.bytes
                } else {
                    &mut files.text
                }) += size;
                Ok(Some(self.closed(length)))
            }
            State::End if b"\r\n".starts_with(bytes) => Ok(None),
            State::End => malformed("there is text after the form"),
        }
    }

    /// A part of this length has ended, and its boundary with it.
    fn closed(&mut self, length: usize) -> usize {
        self.state = State::Boundary;
        length + self.mark.needle().len()
    }

    fn after_boundary(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        match bytes {
            [b'-', b'-', ..] => {
                self.state = State::End;
                if self.has_quality() {
                    self.found.image_tokens.get_or_insert(DEAREST_IMAGE);
                }
                Ok(Some(2))
            }
            [b'\r', b'\n', ..] if self.parts == MAX_PARTS => {
                malformed(format!("the form has more than {MAX_PARTS} parts"))
            }
            // The end of the line belongs to the head, which may be empty.
            [b'\r', b'\n', ..] => {
                self.parts += 1;
                self.state = State::Head;
                Ok(Some(0))
            }
            [] | [b'-' | b'\r'] => Ok(None),
            _ => malformed("a boundary of the form must end its line"),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let head = bytes.get(..bytes.len().min(MAX_HEAD)).unwrap_or_default();
        let Some(end) = memmem::find(head, b"\r\n\r\n") else {
            if bytes.len() >= MAX_HEAD {
                return malformed("a part of the form has no end of its head, or one beyond 8 KB");
            }
            return Ok(None);
        };
        let named = part_name(head.get(2..end).unwrap_or_default())?;
        let start = end + 4;
        let mut members = self.members.iter().zip(0..);
        let known = members.find(|((known, _), _)| *known == named.name);
        let Some(((name, member), place)) = known else {
            self.refuse_like(&named.name)?;
            if named.is_file {
                self.found.files.count += 1;
            }
            self.state = State::Skipped {
                start: self.at + start,
                is_file: named.is_file,
            };
            return Ok(Some(start));
        };
        let bit = 1_u64 << place;
        if self.met & bit != 0 {
            return malformed(format!("\"{name}\" is given twice"));
        }
        if named.is_file {
            return malformed(format!("\"{name}\" must not be a file"));
        }
        if self.is_sealed {
            return malformed(format!(
                "\"{name}\" must stand before the files of a form this large"
            ));
        }
        self.met |= bit;
        self.state = State::Field(name, *member);
        Ok(Some(start))
    }
}

impl FormScan {
    /// Refuses a name that some servers would read as that of a member.
    fn refuse_like(&self, name: &str) -> Result<(), Malformed> {
        let names = || self.members.iter().map(|(known, _)| *known);
        refuse_folded(name.as_bytes(), names())?;
        // In `images[0][file_id]` servers see what JSON has as an object in a list.
        if name.split(['[', ']', '.']).any(is_id) {
            return malformed(format!("{name:?} has no place in a form: send ids as JSON"));
        }
        // `model[]` and `stream[0]` are lists for them, and the last of a list is its value.
        let Some((begin, _)) = name.split_once('[') else {
            return Ok(());
        };
        refuse_folded(begin.as_bytes(), names())?;
        match names().find(|known| *known == begin) {
            Some(known) => malformed(format!("write \"{known}\" instead of {name:?}")),
            None => Ok(()),
        }
    }
}

/// Whether a name is that of a member which names what a backend keeps.
fn is_id(name: &str) -> bool {
    mention(name.as_bytes()).and_then(Mention::kept).is_some()
        || refuse_folded(name.as_bytes(), names()).is_err()
}

/// What a part is called.
struct PartName {
    name: String,
    /// It has the name of a file, too.
    is_file: bool,
}

/// The `name` of the one `Content-Disposition: form-data` in a part's head. Refuses what would give a
/// part another name, or its value another text, at some servers: escapes, `name*` and a transfer
/// encoding, or a line that ends for some of them only.
fn part_name(head: &[u8]) -> Result<PartName, Malformed> {
    let Ok(head) = std::str::from_utf8(head) else {
        return malformed("the head of a part is not valid UTF-8");
    };
    if head.split("\r\n").any(|line| line.contains(['\r', '\n'])) {
        return malformed("each line of a part's head must end with CR LF");
    }
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
    let mut is_file = false;
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
        is_file |= ["filename", "filename*"]
            .iter()
            .any(|one| key.eq_ignore_ascii_case(one));
        let after = after.trim_start();
        rest = after.strip_prefix(';').unwrap_or(after);
    }
    match name {
        Some(name) if rest.trim().is_empty() => Ok(PartName { name, is_file }),
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
        Member::Quality => found.image_tokens = Some(image_tokens(text)),
        Member::User(UserMember::User) => found.users.user = Some(range),
        // No form of these APIs has them.
        Member::StreamOptions
        | Member::StreamFormat
        | Member::DataSources
        | Member::Tools
        | Member::Prompts
        | Member::Inputs
        | Member::Background
        | Member::User(UserMember::SafetyIdentifier | UserMember::Metadata)
        | Member::Parts
        | Member::Agent
        | Member::PreviousResponse
        | Member::Conversation
        | Member::CacheKey
        | Member::Instructions
        | Member::Messages => {}
    }
    Ok(())
}
