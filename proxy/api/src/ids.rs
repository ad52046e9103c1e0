//! Marks what a backend keeps in its answers: an id gets a tag behind it, and what the backend has sealed one in
//! front, wherever the answer is cut into frames. Nothing is held back, and all other bytes stay.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use crate::mentions::{Inside, Mention, inside, mention};

#[cfg(test)]
mod tests;

/// What is put behind an id.
pub type Tag = [u8; 16];
/// What ends the tag in front of something sealed, which is base64 and has none of it.
pub const SEAL: u8 = b'.';

/// The longest id that is marked. Backends' are below 64.
const LONGEST: usize = 128;
/// Containers within each other that are looked into.
const DEEPEST: usize = 128;
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

/// What gets a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// An id.
    Id(&'a str),
    /// Something sealed.
    Sealed,
}

/// What an object or a list is to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// That of an event, which holds the answer as a member.
    Event,
    /// The answer itself.
    Answer,
    /// What belongs to it: the conversation of a response, the file of an upload.
    Kept,
    /// Any other, which has no id of its own.
    Inner,
    /// One with names of the client's own.
    OwnNames,
    /// A list, and what the strings in it mention.
    List(Option<Mention>),
    /// A page of answers, and the list of them in it.
    Page,
    Answers,
}

/// A scan of one JSON text.
#[derive(Debug)]
struct Scan {
    /// What the outermost object is.
    root: Object,
    /// The objects and lists that are open, the outermost first, as long as they matter.
    open: Vec<Object>,
    /// How many others are open within the last of them.
    others: usize,
    /// The next string is a member's name.
    before_name: bool,
    /// What is spoken in it has an id.
    speaks: bool,
    /// The name of the member whose value is next.
    name: Vec<u8>,
    /// What the string that is not at its end holds, if that matters.
    text: Vec<u8>,
    string: Option<Text>,
}

/// A string that is not at its end.
#[derive(Debug)]
struct Text {
    /// What it holds matters, as far as that is known.
    is_kept: bool,
    is_name: bool,
    /// It is sealed, and nothing of it has come.
    is_sealed: bool,
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

    /// For an answer that lists parts of something.
    #[must_use]
    pub const fn items() -> Self {
        Self {
            lines: None,
            json: Scan::new(Object::Inner),
            id: None,
        }
    }

    /// For an answer that lists what is kept.
    #[must_use]
    pub const fn page() -> Self {
        Self {
            lines: None,
            json: Scan::new(Object::Page),
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

    /// For an answer that is spoken, or for a stream of it: `audio` has an id.
    #[must_use]
    pub const fn speech(is_stream: bool) -> Self {
        let mut json = Scan::new(Object::Inner);
        json.speaks = true;
        Self {
            lines: if is_stream {
                Some(Line::Start(0))
            } else {
                None
            },
            json,
            id: None,
        }
    }

    /// The id of the answer itself, once it has come.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Takes bytes of the answer, and returns them with its tag at each mark that has one.
    pub fn push(&mut self, data: Bytes, tag: impl Fn(Mark<'_>) -> Option<Tag>) -> Bytes {
        let mut tags: Vec<(usize, Tag, bool)> = Vec::new();
        let mut found = |at: usize, mark: Mark<'_>| {
            tags.extend(tag(mark).map(|tag| (at, tag, mark == Mark::Sealed)));
        };
        match self.lines {
            None => self.json.push(&data, 0, &mut self.id, &mut found),
            Some(line) => self.lines = Some(self.events_in(line, &data, &mut found)),
        }
        if tags.is_empty() {
            return data;
        }
        let mut out = BytesMut::with_capacity(data.len() + tags.len() * (size_of::<Tag>() + 1));
        let mut begin = 0;
        for (at, tag, is_sealed) in tags {
            out.extend_from_slice(data.get(begin..at).unwrap_or_default());
            out.extend_from_slice(&tag);
            if is_sealed {
                out.extend_from_slice(&[SEAL]);
            }
            begin = at;
        }
        out.extend_from_slice(data.get(begin..).unwrap_or_default());
        out.freeze()
    }

    fn events_in(
        &mut self,
        mut line: Line,
        data: &[u8],
        found: &mut impl FnMut(usize, Mark<'_>),
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
                    self.json.begin();
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
    /// What the object is that the member `name` holds, or the list; `None`: nothing in it matters.
    fn within(self, name: &[u8]) -> Option<Self> {
        match (self, name) {
            (Self::List(_) | Self::OwnNames, _) => Some(Self::Inner),
            (Self::Answers, _) => Some(Self::Answer),
            (Self::Page, b"data") => Some(Self::Answers),
            (Self::Event, b"response") => Some(Self::Answer),
            (Self::Answer, b"conversation" | b"file") => Some(Self::Kept),
            (Self::Event | Self::Answer | Self::Kept | Self::Inner | Self::Page, _) => {
                match inside(name) {
                    Inside::Known => Some(Self::Inner),
                    Inside::OwnNames => Some(Self::OwnNames),
                    Inside::Own => None,
                }
            }
        }
    }

    /// What the strings mention that stand here by this name.
    fn mention(self, name: &[u8]) -> Option<Mention> {
        match self {
            Self::List(mention) => mention,
            Self::OwnNames | Self::Answers => None,
            Self::Event | Self::Answer | Self::Kept | Self::Inner | Self::Page => mention(name),
        }
    }

    /// Whether the string `name` is an id of what the backend keeps.
    fn has_id(self, name: &[u8]) -> bool {
        let is_own = match self {
            Self::Event | Self::Inner | Self::OwnNames | Self::List(_) | Self::Answers => false,
            Self::Page => matches!(name, b"first_id" | b"last_id"),
            Self::Answer => matches!(
                name,
                b"id" | b"previous_response_id" | b"conversation" | b"upload_id"
            ),
            Self::Kept => name == b"id",
        };
        is_own || self.mention(name).and_then(Mention::kept).is_some()
    }

    const fn is_list(self) -> bool {
        match self {
            Self::List(_) | Self::Answers => true,
            Self::Event | Self::Answer | Self::Kept | Self::Inner | Self::OwnNames | Self::Page => {
                false
            }
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
            speaks: false,
            name: Vec::new(),
            text: Vec::new(),
            string: None,
        }
    }

    /// Begins with another text.
    fn begin(&mut self) {
        self.open.clear();
        self.others = 0;
        self.before_name = false;
        self.string = None;
    }

    /// Takes the next bytes, which begin at `base` of the frame.
    fn push(
        &mut self,
        bytes: &[u8],
        base: usize,
        own: &mut Option<Box<str>>,
        found: &mut impl FnMut(usize, Mark<'_>),
    ) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Some(text) = &mut self.string {
                let rest = bytes.get(at..).unwrap_or_default();
                if std::mem::take(&mut text.is_sealed) && byte != b'"' {
                    found(base + at, Mark::Sealed);
                }
                let Some(length) = text.push(rest, &mut self.text) else {
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
                b',' if self.others == 0 => {
                    self.before_name = self.open.last().is_some_and(|one| !one.is_list());
                }
                b':' if self.others == 0 => self.before_name = false,
                _ => {}
            }
        }
    }

    fn opens(&mut self, is_object: bool) {
        let object = match self.open.last() {
            _ if self.others > 0 || self.open.len() >= DEEPEST => None,
            None => is_object.then_some(self.root),
            Some(outer)
                if is_object && self.speaks && !outer.is_list() && self.name == b"audio" =>
            {
                Some(Object::Kept)
            }
            Some(outer) if is_object => outer.within(&self.name),
            Some(outer) => outer.within(&self.name).map(|inside| match inside {
                Object::Answers => inside,
                Object::Event
                | Object::Answer
                | Object::Kept
                | Object::Inner
                | Object::OwnNames
                | Object::List(_)
                | Object::Page => Object::List(outer.mention(&self.name)),
            }),
        };
        match object {
            Some(object) => {
                self.open.push(object);
                self.before_name = is_object;
            }
            None => self.others += 1,
        }
    }

    fn string_begins(&mut self) -> Text {
        self.text.clear();
        let object = self.open.last().filter(|_| self.others == 0);
        let mut is_kept = self.before_name;
        let mut is_sealed = false;
        if let Some(object) = object.filter(|_| !self.before_name) {
            is_kept = object.has_id(&self.name);
            is_sealed = object.mention(&self.name) == Some(Mention::Sealed);
        }
        Text {
            is_kept: is_kept && object.is_some(),
            is_name: self.before_name,
            is_sealed,
            escaped: false,
        }
    }

    fn string_ended(
        &mut self,
        at: usize,
        own: &mut Option<Box<str>>,
        found: &mut impl FnMut(usize, Mark<'_>),
    ) {
        let Some(Text {
            is_kept, is_name, ..
        }) = self.string.take()
        else {
            return;
        };
        if self.others > 0 {
            return;
        }
        if is_name {
            std::mem::swap(&mut self.name, &mut self.text);
            if !is_kept {
                self.name.clear();
            }
            return;
        }
        let Ok(id) = str::from_utf8(&self.text) else {
            return;
        };
        if id.is_empty() || !is_kept {
            return;
        }
        if own.is_none() && self.name == b"id" && self.open.last() == Some(&Object::Answer) {
            *own = Some(id.into());
        }
        found(at, Mark::Id(id));
    }
}

// === impl Text ===

impl Text {
    /// Takes what belongs to the string, and returns where its quote is.
    fn push(&mut self, bytes: &[u8], kept: &mut Vec<u8>) -> Option<usize> {
        let mut at = 0;
        loop {
            if self.escaped && at < bytes.len() {
                self.escaped = false;
                at += 1;
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let length = memchr2(b'"', b'\\', rest);
            self.keep(rest.get(..length.unwrap_or(rest.len())), kept);
            at += length?;
            if bytes.get(at) == Some(&b'"') {
                return Some(at);
            }
            // No id has an escape, and no name that matters.
            self.is_kept = false;
            self.escaped = true;
            at += 1;
        }
    }

    fn keep(&mut self, bytes: Option<&[u8]>, kept: &mut Vec<u8>) {
        let Some(bytes) = bytes.filter(|_| self.is_kept) else {
            return;
        };
        if kept.len().saturating_add(bytes.len()) > LONGEST {
            self.is_kept = false;
        } else {
            kept.extend_from_slice(bytes);
        }
    }
}
