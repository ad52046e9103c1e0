//! Batches: a file whose lines are requests, and files whose lines are their answers.
//!
//! Nothing can rewrite a line, since the file is at the backend already. So a line is read more strictly than a
//! request: a reader that splits lines elsewhere, ignores the case of a name or takes the last of two members must
//! find the same request in it.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use memchr::memchr;
use proxy_core::names::Usage;

use crate::api::{Api, Billing, Call, Form, find};
use crate::body::{Malformed, malformed, refuse_folded};
use crate::error::{Dialect, is_filtered};
use crate::json::{Cursor, member};
use crate::responses::Progress;
use crate::usage;

#[cfg(test)]
mod tests;

/// What a line is made of.
const PARTS: [&str; 4] = ["custom_id", "method", "url", "body"];
/// The member of a new batch that names its file, and where a [`crate::Reference`] says that it stands.
pub const INPUT: &str = "input_file_id";
const ENDPOINT: &str = "endpoint";
/// Not documented. Who reads it would not look at the lines.
const MODEL: &str = "model";
/// Members of a new batch that name places of a storage account (Azure, "Configuring Azure Blob Storage for Azure
/// OpenAI Batch"): only the backend reads what is there.
const ELSEWHERE: [&str; 2] = ["input_blob", "output_folder"];

/// What a new batch says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The operation of its lines, as they write it.
    pub endpoint: Option<Box<str>>,
    /// The member that names what the gateway cannot read.
    pub elsewhere: Option<&'static str>,
}

/// A line of an input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The path of its operation.
    pub url: Box<str>,
    /// Where its body stands.
    pub body: Range<usize>,
}

/// What an answered line has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What its usage tells.
    Told(Usage),
    /// It was answered, with as many output tokens as its text has, and tells no usage.
    Shown(u64),
    /// Its prompt was read, and refused.
    Filtered,
    /// No model has read it.
    Nothing,
}

/// What a batch says of itself, once it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How far it has come.
    pub progress: Progress,
    /// The operation of its lines.
    pub endpoint: Option<Box<str>>,
    /// The files with the answers of its lines.
    pub files: Vec<Box<str>>,
    /// How many lines it has, and how many of them were answered, if it says so.
    pub lines: Option<u64>,
    /// See `lines`.
    pub answered: Option<u64>,
    /// What they came to, if it says so.
    pub usage: Option<Usage>,
}

/// Cuts a file into its lines as it comes. Holds one line at most, and what came with its end.
#[derive(Debug)]
pub struct Lines {
    before: BytesMut,
    next: Bytes,
    number: u64,
    longest: usize,
}

/// A line is longer than may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Which one, counted from 1.
    pub number: u64,
}

/// Reads the body of a new batch.
///
/// # Errors
/// [`Malformed`] with a message for the client.
pub fn asked(body: &[u8]) -> Result<Asked, Malformed> {
    let mut asked = Asked::default();
    let mut has_input = false;
    let mut cursor = Cursor::new(body);
    cursor.blanks();
    if cursor.peek() != Some(b'{') {
        return malformed("the body must be a JSON object");
    }
    cursor.object(1, |cursor, name, depth| {
        let name = String::from_utf8_lossy(name);
        let known = [INPUT, ENDPOINT, MODEL].into_iter().chain(ELSEWHERE);
        refuse_folded(name.as_bytes(), known.filter(|known| *known != name))?;
        if let Some(member) = ELSEWHERE.into_iter().find(|one| *one == name) {
            if cursor.scalar(depth)? != b"null" {
                asked.elsewhere = Some(member);
            }
            return Ok(());
        }
        if name == MODEL {
            return malformed(format!(
                "leave out \"{MODEL}\": it is that of the lines in the file"
            ));
        }
        if name == INPUT {
            if std::mem::replace(&mut has_input, true) {
                return malformed(format!("\"{INPUT}\" is given twice"));
            }
        } else if name == ENDPOINT {
            if asked.endpoint.is_some() {
                return malformed(format!("\"{ENDPOINT}\" is given twice"));
            }
            if cursor.peek() != Some(b'"') {
                return malformed(format!("\"{ENDPOINT}\" must be a string"));
            }
            asked.endpoint = Some(cursor.string()?.into());
            return Ok(());
        }
        cursor.skip(depth)
    })?;
    Ok(asked)
}

/// Reads a line of an input file.
///
/// # Errors
/// [`Malformed`] with a message for the client.
pub fn line(bytes: &[u8]) -> Result<Line, Malformed> {
    if simdutf8::basic::from_utf8(bytes).is_err() {
        return malformed("it is not valid UTF-8");
    }
    // Some readers end a line there.
    if bytes.iter().any(|byte| *byte < b' ' && *byte != b'\t') {
        return malformed("it has a control character; write the file with line feeds alone");
    }
    let mut cursor = Cursor::new(bytes);
    cursor.blanks();
    if cursor.peek() != Some(b'{') {
        return malformed("it must be a JSON object, without a byte order mark");
    }
    let (mut id, mut method, mut url, mut body) = (None, None, None, None);
    cursor.object(1, |cursor, name, depth| {
        let start = cursor.at;
        let Some(part) = PARTS.into_iter().find(|part| part.as_bytes() == name) else {
            refuse_folded(name, PARTS)?;
            return cursor.skip(depth);
        };
        let is_new = match (part, cursor.peek()) {
            ("body", Some(b'{')) => {
                cursor.skip(depth)?;
                body.replace(start..cursor.at).is_none()
            }
            ("body", _) => return malformed("\"body\" must be a JSON object"),
            (_, Some(b'"')) => {
                let place = match part {
                    "custom_id" => &mut id,
                    "method" => &mut method,
                    _ => &mut url,
                };
                place.replace(cursor.string()?).is_none()
            }
            (_, _) => return malformed(format!("\"{part}\" must be a string")),
        };
        if is_new {
            Ok(())
        } else {
            malformed(format!("\"{part}\" is given twice"))
        }
    })?;
    cursor.blanks();
    if cursor.at != bytes.len() {
        return malformed("there is text after its JSON object");
    }
    let missing = |name: &str| Malformed(format!("\"{name}\" is missing"));
    id.ok_or_else(|| missing("custom_id"))?;
    if method.ok_or_else(|| missing("method"))? != "POST" {
        return malformed("\"method\" must be \"POST\"");
    }
    Ok(Line {
        url: url.ok_or_else(|| missing("url"))?.into(),
        body: body.ok_or_else(|| missing("body"))?,
    })
}

/// The row of a line's `url`, with `/v1` in front or without: an operation that is asked for in JSON, names its model
/// there and tells its usage.
#[must_use]
pub fn row(rows: &'static [Api], url: &str) -> Option<&'static Api> {
    let path = url.strip_prefix("/v1").unwrap_or(url);
    let found = find(rows, &Method::POST, &format!("/v1{path}")).ok()?;
    let call = found.api.answer.call()?;
    let is_plain = found.model.is_none() && found.named.is_none() && path.starts_with('/');
    let is_metered = call.billing == Billing::Metered && call.form == Form::Json;
    let is_here = found.api.dialect == Dialect::OpenAi;
    // What may run in a batch has one upstream path, which an id is no part of.
    (is_plain && is_here && is_metered && call.has_model()).then_some(found.api)
}

/// What a line of an output or error file tells; `count` counts a text's tokens. `None` if it is no such line.
pub fn outcome(
    call: &Call,
    line: &[u8],
    count: impl FnOnce(&str) -> Option<u64>,
) -> Option<Outcome> {
    let Some(response) = member(line, "response").filter(|one| one.starts_with(b"{")) else {
        // One that was never run has an error instead.
        return member(line, "error").map(|_error| Outcome::Nothing);
    };
    let body = member(response, "body").unwrap_or_default();
    if let Some(usage) = (call.read_usage)(body, None) {
        return Some(Outcome::Told(usage));
    }
    let is_success = member(response, "status_code").is_some_and(|code| code.starts_with(b"2"));
    Some(if is_success {
        Outcome::Shown(call.counted_output(body, count))
    } else if is_filtered(body) {
        Outcome::Filtered
    } else {
        Outcome::Nothing
    })
}

/// Reads a batch; `None` if it is none.
#[must_use]
pub fn batch(object: &[u8]) -> Option<Batch> {
    let text = |name: &str| -> Option<Box<str>> {
        let value = member(object, name)?;
        let text = serde_json::from_slice::<String>(value).ok()?;
        (!text.is_empty()).then(|| text.into())
    };
    // Azure's examples write them in capitals, too.
    let status = text("status")?.to_ascii_lowercase();
    let progress = match &*status {
        "validating" | "in_progress" | "inprogress" | "finalizing" | "cancelling" => {
            Progress::Running
        }
        "completed" | "failed" | "expired" | "cancelled" => Progress::Ended,
        _ => return None,
    };
    let counts = member(object, "request_counts").unwrap_or_default();
    let count = |name: &str| str::from_utf8(member(counts, name)?).ok()?.parse().ok();
    let [completed, failed]: [Option<u64>; 2] = [count("completed"), count("failed")];
    let answered = completed.map(|completed| completed.saturating_add(failed.unwrap_or(0)));
    let files = [text("output_file_id"), text("error_file_id")];
    let files: Vec<Box<str>> = files.into_iter().flatten().collect();
    // What was answered before it was stopped is in a file.
    let is_stopped = matches!(&*status, "failed" | "cancelled");
    let nothing = (is_stopped && files.is_empty()).then_some(0);
    Some(Batch {
        progress,
        endpoint: text(ENDPOINT),
        files,
        lines: count("total"),
        answered: answered.or(nothing),
        // Zeros stand there as long as nothing is known.
        usage: usage::generation(object, None).filter(|usage| usage.total_tokens() > 0),
    })
}

/// A batch is not settled by what it answers a client: the gateway follows it to its end.
pub(crate) fn untold(_answer: &[u8], _earlier: Option<Usage>) -> Option<Usage> {
    None
}

// === impl Lines ===

impl Lines {
    /// For lines of at most `longest` bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self {
            before: BytesMut::new(),
            next: Bytes::new(),
            number: 0,
            longest,
        }
    }

    /// Takes the next piece, once [`Self::line`] has nothing more of the last one.
    pub fn push(&mut self, piece: Bytes) {
        if self.next.is_empty() {
            self.next = piece;
        } else {
            let all = [std::mem::take(&mut self.next), piece].concat();
            self.next = all.into();
        }
    }

    /// The bytes that it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.before.len().saturating_add(self.next.len())
    }

    /// The next line that is whole and not blank, with its number.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn line(&mut self) -> Result<Option<(u64, Bytes)>, TooLong> {
        loop {
            let Some(end) = memchr(b'\n', &self.next) else {
                let rest = std::mem::take(&mut self.next);
                self.keep(&rest)?;
                return Ok(None);
            };
            let part = self.next.split_to(end);
            self.next.advance(1);
            let line = if self.before.is_empty() && part.len() <= self.longest {
                part
            } else {
                self.keep(&part)?;
                self.before.split().freeze()
            };
            self.number += 1;
            let line = trimmed(&line);
            if !line.is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }

    /// The last line of a file that ends without a line feed.
    pub fn last(&mut self) -> Option<(u64, Bytes)> {
        self.number += 1;
        let line = trimmed(&self.before.split().freeze());
        (!line.is_empty()).then_some((self.number, line))
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), TooLong> {
        if self.before.len().saturating_add(part.len()) > self.longest {
            return Err(TooLong {
                number: self.number + 1,
            });
        }
        self.before.extend_from_slice(part);
        Ok(())
    }
}

fn trimmed(line: &Bytes) -> Bytes {
    line.slice_ref(line.trim_ascii())
}
