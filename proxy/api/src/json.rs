//! A cursor over JSON text that builds nothing: it reads strictly what every backend behind us must
//! read in the same way, and skips values without recursion.
#![expect(
    clippy::indexing_slicing,
    reason = "a cursor over bytes: every index is checked against the length by `peek`"
)]

use std::borrow::Cow;

use memchr::memchr2;

use crate::body::{Malformed, malformed};
use crate::mentions::{is_like, may_be};

/// Deepest nesting taken. `OpenAI`'s schemas stay below 20; parsers behind us stop at 128 or crash.
pub(crate) const MAX_DEPTH: usize = 64;

const TYPE: &[u8] = b"type";
/// The values of `type` of parts that are no text, in chat completions, responses and messages.
const MEDIA: [&[u8]; 7] = [
    b"image_url",
    b"input_audio",
    b"file",
    b"input_image",
    b"input_file",
    b"image",
    b"document",
];
/// That of an item in responses which stands for one that the backend keeps.
const ITEM_REFERENCE: &[u8] = b"item_reference";
/// The longest of them all.
const LONGEST_KIND: usize = 14;

/// The value of a top-level member of a JSON object, as its bytes. For answers, whose grammar is
/// the backend's business: `None` if the member is missing or the text is broken.
pub(crate) fn member<'a>(bytes: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut cursor = Cursor::new(bytes);
    let mut value = None;
    cursor.blanks();
    if cursor.peek() != Some(b'{') {
        return None;
    }
    cursor
        .object(1, |cursor, name, depth| {
            let start = cursor.at;
            cursor.skip(depth)?;
            if name == wanted.as_bytes() {
                value = Some(start..cursor.at);
            }
            Ok(())
        })
        .ok()?;
    bytes.get(value?)
}

pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
    /// A part of a message was skipped that may be an image, sound or a file.
    pub(crate) met_media: bool,
    /// The same of something that the backend keeps.
    pub(crate) met_item_reference: bool,
    /// A member was skipped that may mention what a backend keeps.
    pub(crate) met_mention: bool,
    /// Behind the last string `type`.
    after_type: usize,
    /// Strings are looked through for what must be escaped in them.
    pub(crate) seeks_controls: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    /// Begins in the middle.
    pub(crate) const fn at(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            met_media: false,
            met_item_reference: false,
            met_mention: false,
            after_type: 0,
            seeks_controls: false,
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn unexpected<T>(&self) -> Result<T, Malformed> {
        match self.peek() {
            Some(_) => malformed(format!("the body is not valid JSON at byte {}", self.at)),
            None => malformed("the body ends in the middle of the JSON"),
        }
    }

    /// Reads an object whose brace is next, and hands each value to `member`, which must consume
    /// it. Returns the position after the brace, and whether the object is empty.
    pub(crate) fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, &[u8], usize) -> Result<(), Malformed>,
    ) -> Result<(usize, bool), Malformed> {
        self.at += 1;
        let start = self.at;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok((start, true));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return self.unexpected();
            }
            let name = self.unescaped()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return self.unexpected();
            }
            self.at += 1;
            self.blanks();
            member(self, &name, depth)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok((start, false));
                }
                _ => return self.unexpected(),
            }
        }
    }

    /// Reads a list whose bracket is next, and hands each item to `item`, which must consume it.
    pub(crate) fn array(
        &mut self,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            item(self, depth)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected(),
            }
        }
    }

    /// Reads a string whose quote is next, unescaped.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let bad = |_error| Malformed("the body is not valid UTF-8".to_owned());
        Ok(match self.unescaped()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map_err(bad)?.into(),
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .map_err(|error| bad(error.utf8_error()))?
                .into(),
        })
    }

    /// The same as bytes: names are only compared.
    fn unescaped(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let start = self.at;
        let escaped = self.skip_string()?;
        let whole = &self.bytes[start..self.at];
        if !escaped {
            return Ok(Cow::Borrowed(&whole[1..whole.len() - 1]));
        }
        match serde_json::from_slice::<String>(whole) {
            Ok(text) => Ok(Cow::Owned(text.into_bytes())),
            Err(_) => malformed(format!("a string at byte {start} has an invalid escape")),
        }
    }

    /// Skips a string whose quote is next; true if it holds an escape.
    fn skip_string(&mut self) -> Result<bool, Malformed> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            let Some(offset) = memchr2(b'"', b'\\', &self.bytes[self.at..]) else {
                return malformed("a string in the body is not closed");
            };
            self.at += offset;
            if self.bytes[self.at] == b'"' {
                if self.seeks_controls {
                    self.controls(start)?;
                }
                self.note(start, escaped);
                self.at += 1;
                return Ok(escaped);
            }
            escaped = true;
            let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
            self.at += match self.bytes.get(self.at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                Some(b'u') if self.bytes.get(self.at + 2..self.at + 6).is_some_and(hex) => 6,
                Some(_) => return malformed(format!("byte {} begins an invalid escape", self.at)),
                None => return malformed("a string in the body is not closed"),
            };
        }
    }

    /// Refuses a string with a control character: some readers take it, and others do not.
    #[cold]
    fn controls(&self, start: usize) -> Result<(), Malformed> {
        let text = &self.bytes[start..self.at];
        match text.iter().position(|byte| *byte < b' ') {
            Some(place) => malformed(format!(
                "byte {} is a control character that is not escaped",
                start + place
            )),
            None => Ok(()),
        }
    }

    /// Takes note of `"type": "image_url"` and its like among the strings that are skipped.
    #[inline(always)]
    fn note(&mut self, start: usize, escaped: bool) {
        let length = self.at - start;
        if escaped && length <= LONGEST_KIND * "\\u0000".len() {
            self.note_escaped(start);
        } else if length == TYPE.len() || length <= LONGEST_KIND && self.is_type(start) {
            self.note_text(start, &self.bytes[start..self.at]);
        }
    }

    /// Takes note of `file_id` and its like among the names of members that are skipped.
    #[inline(always)]
    fn note_name(&mut self, start: usize, escaped: bool) {
        let length = self.at - 1 - start;
        if escaped || may_be(self.bytes[start], length) {
            self.note_mention(start, escaped);
        }
    }

    #[cold]
    fn note_mention(&mut self, start: usize, escaped: bool) {
        let whole = self.bytes.get(start - 1..self.at).unwrap_or_default();
        self.met_mention |= if escaped {
            let name = serde_json::from_slice::<String>(whole);
            name.is_ok_and(|name| is_like(name.as_bytes()))
        } else {
            is_like(whole.get(1..whole.len() - 1).unwrap_or_default())
        };
    }

    #[cold]
    fn note_escaped(&mut self, start: usize) {
        let whole = self.bytes.get(start - 1..=self.at).unwrap_or_default();
        if let Ok(text) = serde_json::from_slice::<String>(whole) {
            self.note_text(start, text.as_bytes());
        }
    }

    fn note_text(&mut self, start: usize, text: &[u8]) {
        self.met_media |= MEDIA.contains(&text) && self.is_type(start);
        self.met_item_reference |= text == ITEM_REFERENCE && self.is_type(start);
        if text == TYPE {
            self.after_type = self.at + 1;
        }
    }

    /// Whether the string whose text begins at `start` is the value of a `type`.
    fn is_type(&self, start: usize) -> bool {
        let between = self.bytes.get(self.after_type..start).unwrap_or_default();
        let is_blank = |byte: &u8| matches!(byte, b':' | b'"' | b' ' | b'\n' | b'\r' | b'\t');
        self.after_type > 0 && between.len() < 64 && between.iter().all(is_blank)
    }

    /// Reads a number or a word, as its bytes.
    pub(crate) fn scalar(&mut self, depth: usize) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        self.skip(depth)?;
        Ok(&self.bytes[start..self.at])
    }

    /// Skips a value of any kind without recursion; `depth` is where it stands.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        // One bit per open container below `depth`: set for an object.
        let mut objects: u64 = 0;
        let mut open = 0;
        loop {
            self.blanks();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    self.blanks();
                    let is_object = bracket == b'{';
                    if self.peek() == Some(if is_object { b'}' } else { b']' }) {
                        self.at += 1;
                    } else {
                        open += 1;
                        if depth + open > MAX_DEPTH {
                            return malformed(format!(
                                "the body is nested deeper than {MAX_DEPTH}"
                            ));
                        }
                        objects = (objects << 1) | u64::from(is_object);
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.skip_string()?;
                }
                Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.word()?,
                _ => return self.unexpected(),
            }
            // A value has ended: close what it closes, or go on to the next member.
            loop {
                if open == 0 {
                    return Ok(());
                }
                self.blanks();
                let in_object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return self.unexpected(),
                }
                self.at += 1;
                open -= 1;
                objects >>= 1;
            }
        }
    }

    /// Skips a member's name and its colon.
    fn name(&mut self) -> Result<(), Malformed> {
        self.blanks();
        if self.peek() != Some(b'"') {
            return self.unexpected();
        }
        let start = self.at + 1;
        let escaped = self.skip_string()?;
        self.note_name(start, escaped);
        self.blanks();
        if self.peek() != Some(b':') {
            return self.unexpected();
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(
            self.peek(),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
        ) {
            self.at += 1;
        }
        let text = &self.bytes[start..self.at];
        let valid = matches!(text, b"true" | b"false" | b"null") || is_number(text);
        if !valid {
            self.at = start;
            return self.unexpected();
        }
        Ok(())
    }
}

/// RFC 8259: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> usize {
        text.iter().take_while(|byte| byte.is_ascii_digit()).count()
    }
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let signed = exponent
            .strip_prefix(b"+")
            .or_else(|| exponent.strip_prefix(b"-"));
        let exponent = signed.unwrap_or(exponent);
        let count = digits(exponent);
        if count == 0 {
            return false;
        }
        rest = &exponent[count..];
    }
    rest.is_empty()
}
