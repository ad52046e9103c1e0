//! The parts of a prompt that are no text: how many bytes of the body they are, and the most tokens that
//! they come to. Their base64 is never read as text, so it must not be counted as such.
//!
//! Looks at every object of the body that calls itself such a part, wherever it stands: the APIs differ in
//! what is around it.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use memchr::memmem;

use super::image::{self, Vision};
use crate::body::Malformed;
use crate::json::{Cursor, MAX_DEPTH, member};

#[cfg(test)]
mod tests;

/// The most pages of a document that are read (`OpenAI`, "File inputs").
const MOST_PAGES: u64 = 100;
/// The text of a page, beside its picture: a full one has some 3,000 letters.
const PAGE_TEXT: u64 = 1_000;
/// The base64 of a page at least: its packed text and fonts.
const PAGE_BYTES: u64 = 2 << 10;
/// Object streams that are unpacked, and how much of each: the page tree is in one of the first.
const MOST_UNPACKED: usize = 16;
const UNPACKED: u64 = 256 << 10;
/// What is looked at for the number of pages, at either end of a file: the page tree is at one of them.
const LOOKED_AT: usize = 512 << 10;
/// The longest sound that one request may have, at ten tokens a second: 25 MB at 32 kbit/s.
const MOST_SOUND: u64 = 62_500;

/// The parts of one prompt that are no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// The bytes of the body that are their data.
    pub bytes: u64,
    /// The most tokens that they come to.
    pub tokens: u64,
}

/// The media of a body that has been scanned, for a model with this context window if it is known.
#[must_use]
pub fn media(body: &[u8], model: &str, context: Option<u64>) -> Media {
    let mut search = Search {
        vision: Vision::of_model(model),
        most: context.unwrap_or(u64::MAX),
        found: Media::default(),
    };
    let mut cursor = Cursor::new(body);
    cursor.blanks();
    // The scan has taken the body; what this does not understand counts by its bytes.
    drop(search.value(&mut cursor, 1));
    search.found
}

/// The most tokens of a document, given as a JSON string.
pub(super) fn document(data: &str, vision: Vision) -> u64 {
    let pages = pages(data).unwrap_or_else(|| {
        // Of a file by its id or URL not even the size is known.
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if size == 0 {
            MOST_PAGES
        } else {
            size / PAGE_BYTES
        }
    });
    let pages = pages.clamp(1, MOST_PAGES);
    pages.saturating_mul(vision.tokens(None, None) + PAGE_TEXT)
}

/// 10 tokens a second (`OpenAI`, "Managing costs", Realtime), at the slowest rate of what is sent:
/// MPEG layer III at 32 kbit/s, of which base64 makes 5,333 bytes a second.
pub(super) fn audio(base64_bytes: usize) -> u64 {
    const BYTES_PER_TOKEN: u64 = 533;
    u64::try_from(base64_bytes)
        .unwrap_or(u64::MAX)
        .div_ceil(BYTES_PER_TOKEN)
}

struct Search {
    vision: Vision,
    most: u64,
    found: Media,
}

/// The members of one object that say what it is.
#[derive(Default)]
struct Part<'a> {
    kind: &'a [u8],
    image_url: Option<&'a [u8]>,
    input_audio: Option<&'a [u8]>,
    file: Option<&'a [u8]>,
    file_data: Option<&'a [u8]>,
    detail: Option<&'a [u8]>,
    /// Of Anthropic: where an image or a document comes from.
    source: Option<&'a [u8]>,
}

impl Search {
    fn value(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Malformed> {
        match cursor.peek() {
            _ if depth > MAX_DEPTH => cursor.skip(depth),
            Some(b'{') => self.object(cursor, depth),
            Some(b'[') => cursor.array(depth + 1, |cursor, depth| self.value(cursor, depth)),
            _ => cursor.skip(depth),
        }
    }

    fn object(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Malformed> {
        let mut part = Part::default();
        cursor.object(depth, |cursor, name, depth| {
            let start = cursor.at;
            self.value(cursor, depth + 1)?;
            let value = cursor.bytes.get(start..cursor.at).unwrap_or_default();
            match name {
                b"type" => part.kind = value,
                b"image_url" => part.image_url = Some(value),
                b"input_audio" => part.input_audio = Some(value),
                b"file" => part.file = Some(value),
                b"file_data" => part.file_data = Some(value),
                b"detail" => part.detail = Some(value),
                b"source" => part.source = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        self.measure(&part);
        Ok(())
    }

    fn measure(&mut self, part: &Part<'_>) {
        let kind = text(part.kind);
        let (tokens, data) = match &*kind {
            "image_url" | "input_image" => {
                let image = part.image_url.unwrap_or_default();
                let url = member(image, "url").unwrap_or(image);
                let detail = member(image, "detail").or(part.detail).map(text);
                let size = std::str::from_utf8(inner(url)).ok().and_then(image::size);
                (self.vision.tokens(size, detail.as_deref()), url)
            }
            "input_audio" => {
                let sound = part.input_audio.unwrap_or_default();
                let data = member(sound, "data").unwrap_or_default();
                let tokens = if data.is_empty() {
                    MOST_SOUND
                } else {
                    audio(data.len())
                };
                (tokens, data)
            }
            "file" | "input_file" => {
                let file = part.file.unwrap_or_default();
                let data = member(file, "file_data").or(part.file_data);
                let data = data.unwrap_or_default();
                let readable = std::str::from_utf8(inner(data)).unwrap_or_default();
                (document(readable, self.vision), data)
            }
            "image" | "document" => {
                let source = part.source.unwrap_or_default();
                let data = member(source, "data").unwrap_or_default();
                let readable = std::str::from_utf8(inner(data)).unwrap_or_default();
                match (&*kind, &*text(member(source, "type").unwrap_or_default())) {
                    // A document may be plain text, or blocks of its own: both count as they stand.
                    ("document", "text" | "content") => return,
                    ("document", _) => (document(readable, self.vision), data),
                    _ => (self.vision.tokens(image::size_of(readable), None), data),
                }
            }
            _ => return,
        };
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.found.bytes = self.found.bytes.saturating_add(size);
        let most = self.most.min(self.found.tokens.saturating_add(tokens));
        self.found.tokens = most;
    }
}

/// A string without its quotes, as it stands.
fn inner(value: &[u8]) -> &[u8] {
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    value.strip_suffix(b"\"").unwrap_or(value)
}

/// A short string, unescaped; empty for another value.
fn text(value: &[u8]) -> std::borrow::Cow<'_, str> {
    let plain = inner(value);
    match std::str::from_utf8(plain) {
        Ok(plain) if !plain.contains('\\') => plain.into(),
        Ok(_) | Err(_) => serde_json::from_slice::<String>(value)
            .unwrap_or_default()
            .into(),
    }
}

/// The pages of a PDF in a `data:` URL or in plain base64, if they can be counted without unpacking it.
fn pages(data: &str) -> Option<u64> {
    let base64 = data.split_once(";base64,").map_or(data, |(_, data)| data);
    let begin = decoded(base64.as_bytes(), 0)?;
    if !begin.starts_with(b"%PDF-") {
        return None;
    }
    let from = base64.len().saturating_sub(LOOKED_AT);
    let end = decoded(base64.as_bytes(), from - from % 4).unwrap_or_default();
    let counted = counted(&begin).max(counted(&end));
    counted.filter(|pages| *pages > 0)
}

/// The largest count of a page tree in a part of a file, also of one in an object stream (ISO 32000, 7.5.7).
fn counted(bytes: &[u8]) -> Option<u64> {
    let packed = memmem::find_iter(bytes, b"/ObjStm").take(MOST_UNPACKED);
    let packed = packed.filter_map(|at| {
        let rest = bytes.get(at..)?;
        let start = memmem::find(rest, b"stream")? + b"stream".len();
        let data = rest.get(start..)?.trim_ascii_start();
        let mut unpacked = Vec::new();
        let reader = ZlibDecoder::new(data).take(UNPACKED);
        // What was unpacked before an error counts.
        drop(std::io::BufReader::new(reader).read_to_end(&mut unpacked));
        named(&unpacked)
    });
    packed.max().max(named(bytes))
}

/// The largest `/Count`.
fn named(bytes: &[u8]) -> Option<u64> {
    memmem::find_iter(bytes, b"/Count")
        .filter_map(|at| number(bytes.get(at + b"/Count".len()..)?))
        .max()
}

/// A part of base64 from `from` on, which is at a whole group.
fn decoded(base64: &[u8], from: usize) -> Option<Vec<u8>> {
    let part = base64.get(from..)?;
    let part = part.get(..part.len().min(LOOKED_AT))?;
    let whole = part.get(..part.len() - part.len() % 4)?;
    STANDARD.decode(whole).ok()
}

fn number(bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.trim_ascii_start();
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let digits = bytes.get(..digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
