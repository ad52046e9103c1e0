//! Marks the ids of what a backend keeps in its answers: each gets a tag behind it, wherever the answer is
//! cut into frames. Nothing is held back, and all other bytes stay.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

#[cfg(test)]
mod tests;

/// What is put behind an id.
pub type Tag = [u8; 16];

/// The longest id that is marked. Backends' are below 64.
const LONGEST: usize = 128;
/// The prefix of a line that carries data (Server-Sent Events, 9.2.6).
const DATA: &[u8] = b"data:";

/// Finds the ids in an answer.
#[derive(Debug)]
pub struct Marker {
    lines: Option<Line>,
    json: Scan,
    /// The first id of the answer itself.
    id: Option<Box<str>>,
}

/// Where in a line of a stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// As many bytes of it are those of [`DATA`].
    Start(usize),
    /// Behind a carriage return, which a line feed may follow.
    Returned,
    Data,
    /// A field that carries no data.
    Other,
}

/// What an object is to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// That of an event, which holds the answer as a member.
    Event,
    /// The answer itself.
    Answer,
    /// What belongs to it: the conversation of a response, the file of an upload.
    Kept,
}

/// A scan of one JSON text.
#[derive(Debug)]
struct Scan {
    /// What the outermost object is.
    root: Object,
    /// The objects that are open, the outermost first, as long as they matter.
    open: Vec<Object>,
    /// How many others are open within the last of them.
    others: usize,
    /// The next string is a member's name.
    before_name: bool,
    /// The name of the member whose value is next.
    name: Vec<u8>,
    string: Option<Text>,
}

/// A string that is not at its end.
#[derive(Debug)]
struct Text {
    /// What it holds; `None` if that does not matter.
    kept: Option<Vec<u8>>,
    is_name: bool,
    escaped: bool,
}

// === impl Marker ===

impl Marker {
    /// For an answer that is one JSON object.
    #[must_use]
    pub const fn json() -> Self {
        Self {
            lines: None,
            json: Scan::new(Object::Answer),
            id: None,
        }
    }

    /// For a stream of events.
    #[must_use]
    pub const fn events() -> Self {
        Self {
            lines: Some(Line::Start(0)),
            json: Scan::new(Object::Event),
            id: None,
        }
    }

    /// The id of the answer itself, once it has come.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Takes bytes of the answer, and returns them with its tag behind each id that has one.
    pub fn push(&mut self, data: Bytes, tag: impl Fn(&str) -> Option<Tag>) -> Bytes {
        let mut tags: Vec<(usize, Tag)> = Vec::new();
        let mut found = |at: usize, id: &str| tags.extend(tag(id).map(|tag| (at, tag)));
        match self.lines {
            None => self.json.push(&data, 0, &mut self.id, &mut found),
            Some(line) => self.lines = Some(self.events_in(line, &data, &mut found)),
        }
        if tags.is_empty() {
            return data;
        }
        let mut out = BytesMut::with_capacity(data.len() + tags.len() * size_of::<Tag>());
        let mut begin = 0;
        for (at, tag) in tags {
            out.extend_from_slice(data.get(begin..at).unwrap_or_default());
            out.extend_from_slice(&tag);
            begin = at;
        }
        out.extend_from_slice(data.get(begin..).unwrap_or_default());
        out.freeze()
    }

    fn events_in(
        &mut self,
        mut line: Line,
        data: &[u8],
        found: &mut impl FnMut(usize, &str),
    ) -> Line {
        let mut at = 0;
        while let Some(&byte) = data.get(at) {
            match (line, byte) {
                (Line::Returned, b'\n') => {
                    line = Line::Start(0);
                    at += 1;
                }
                (Line::Returned, _) => line = Line::Start(0),
                // A blank line ends an event.
                (Line::Start(0), b'\n' | b'\r') => {
                    self.json = Scan::new(Object::Event);
                    line = ended(byte);
                    at += 1;
                }
                (Line::Start(matched), _) if DATA.get(matched) == Some(&byte) => {
                    let is_whole = matched + 1 == DATA.len();
                    line = if is_whole {
                        Line::Data
                    } else {
                        Line::Start(matched + 1)
                    };
                    at += 1;
                }
                (Line::Start(_), _) => line = Line::Other,
                (Line::Data | Line::Other, _) => {
                    let rest = data.get(at..).unwrap_or_default();
                    let length = memchr2(b'\n', b'\r', rest);
                    if line == Line::Data {
                        let part = rest.get(..length.unwrap_or(rest.len()));
                        let part = part.unwrap_or_default();
                        self.json.push(part, at, &mut self.id, found);
                    }
                    let Some(length) = length else {
                        return line;
                    };
                    line = ended(rest.get(length).copied().unwrap_or_default());
                    at += length + 1;
                }
            }
        }
        line
    }
}

const fn ended(by: u8) -> Line {
    if by == b'\r' {
        Line::Returned
    } else {
        Line::Start(0)
    }
}

// === impl Object ===

impl Object {
    /// What the object is that the member `name` holds.
    fn within(self, name: &[u8]) -> Option<Self> {
        match (self, name) {
            (Self::Event, b"response") => Some(Self::Answer),
            (Self::Answer, b"conversation" | b"file") => Some(Self::Kept),
            _ => None,
        }
    }

    /// Whether the string `name` is an id of what the backend keeps.
    fn has_id(self, name: &[u8]) -> bool {
        match self {
            Self::Event => false,
            Self::Answer => matches!(
                name,
                b"id" | b"previous_response_id" | b"conversation" | b"upload_id"
            ),
            Self::Kept => name == b"id",
        }
    }
}

// === impl Scan ===

impl Scan {
    const fn new(root: Object) -> Self {
        Self {
            root,
            open: Vec::new(),
            others: 0,
            before_name: false,
            name: Vec::new(),
            string: None,
        }
    }

    /// Takes the next bytes, which begin at `base` of the frame.
    fn push(
        &mut self,
        bytes: &[u8],
        base: usize,
        own: &mut Option<Box<str>>,
        found: &mut impl FnMut(usize, &str),
    ) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Some(text) = &mut self.string {
                let rest = bytes.get(at..).unwrap_or_default();
                let Some(length) = text.push(rest) else {
                    return;
                };
                at += length;
                self.string_ended(base + at, own, found);
                at += 1;
                continue;
            }
            at += 1;
            match byte {
                b'"' => self.string = Some(self.string_begins()),
                b'{' => self.opens(true),
                b'[' => self.opens(false),
                b'}' | b']' if self.others > 0 => self.others -= 1,
                b'}' | b']' => drop(self.open.pop()),
                b',' if self.others == 0 => self.before_name = true,
                b':' if self.others == 0 => self.before_name = false,
                _ => {}
            }
        }
    }

    fn opens(&mut self, is_object: bool) {
        let object = match self.open.last() {
            _ if !is_object || self.others > 0 => None,
            None => Some(self.root),
            Some(outer) => outer.within(&self.name),
        };
        match object {
            Some(object) => {
                self.open.push(object);
                self.before_name = true;
            }
            None => self.others += 1,
        }
    }

    fn string_begins(&self) -> Text {
        let matters = self.others == 0
            && self
                .open
                .last()
                .is_some_and(|object| self.before_name || object.has_id(&self.name));
        Text {
            kept: matters.then(Vec::new),
            is_name: self.before_name,
            escaped: false,
        }
    }

    fn string_ended(
        &mut self,
        at: usize,
        own: &mut Option<Box<str>>,
        found: &mut impl FnMut(usize, &str),
    ) {
        let Some(Text { kept, is_name, .. }) = self.string.take() else {
            return;
        };
        if self.others > 0 {
            return;
        }
        if is_name {
            self.name = kept.unwrap_or_default();
            return;
        }
        let Some(id) = kept.as_deref().and_then(|kept| str::from_utf8(kept).ok()) else {
            return;
        };
        if id.is_empty() {
            return;
        }
        if own.is_none() && self.name == b"id" && self.open.last() == Some(&Object::Answer) {
            *own = Some(id.into());
        }
        found(at, id);
    }
}

// === impl Text ===

impl Text {
    /// Takes what belongs to the string, and returns where its quote is.
    fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            if self.escaped && at < bytes.len() {
                self.escaped = false;
                at += 1;
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let length = memchr2(b'"', b'\\', rest);
            self.keep(rest.get(..length.unwrap_or(rest.len())));
            at += length?;
            if bytes.get(at) == Some(&b'"') {
                return Some(at);
            }
            // No id has an escape, and no name that matters.
            self.kept = None;
            self.escaped = true;
            at += 1;
        }
    }

    fn keep(&mut self, bytes: Option<&[u8]>) {
        let (Some(kept), Some(bytes)) = (&mut self.kept, bytes) else {
            return;
        };
        if kept.len().saturating_add(bytes.len()) > LONGEST {
            self.kept = None;
        } else {
            kept.extend_from_slice(bytes);
        }
    }
}
