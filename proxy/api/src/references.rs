//! The places of a request's body that mention what a backend keeps, or a server that it makes the provider call, found in a second look at the few bodies of
//! which the scan says that they may.

use crate::body::{Body, Kept, Malformed, Reference, Server, malformed, refuse_folded};
use crate::ids::{SEAL, Tag};
use crate::json::Cursor;
use crate::mentions::{Inside, Mention, inside, mention, names};

#[cfg(test)]
mod tests;

/// The most ids that a body may mention: `OpenAI` takes some hundred files.
const MOST: usize = 2_000;
/// What a path of members in a message has at most: a name of the client may be as long as its body.
const LONGEST_NAME: usize = 64;
/// Which tool the model is to use.
const CHOICE: &str = "tool_choice";
/// The id within an object.
const ID: &str = "id";

/// Finds what a body mentions, which has been scanned.
///
/// # Errors
/// [`Malformed`] with a message for the client.
pub(crate) fn find(bytes: &[u8], found: &mut Body) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(bytes);
    cursor.blanks();
    let mut search = Search {
        found,
        path: String::new(),
        ids: 0,
    };
    search.object(&mut cursor, 1, Inside::Known)
}

struct Search<'a> {
    found: &'a mut Body,
    /// The members and places that lead to a value.
    path: String,
    /// How many ids there were.
    ids: usize,
}

/// What an object says of an MCP server.
#[derive(Default)]
struct Tool {
    has_label: bool,
    has_address: bool,
    /// It is no tool, but what came of one.
    is_item: bool,
    has_kind: bool,
}

impl Tool {
    /// Looks at a member whose value is next.
    fn look(&mut self, cursor: &Cursor<'_>, name: &[u8]) {
        match name {
            b"server_label" => self.has_label = true,
            b"server_url" => self.has_address = true,
            b"type" => {
                let rest = cursor.bytes.get(cursor.at..).unwrap_or_default();
                let is_item = rest.starts_with(b"\"mcp_");
                // Of several it is the least.
                self.is_item = is_item && (self.is_item || !self.has_kind);
                self.has_kind = true;
            }
            _ => {}
        }
    }

    /// Whether it is a server that only the provider can find.
    const fn is_elsewhere(&self) -> bool {
        self.has_label && !self.has_address && !self.is_item
    }
}

impl Search<'_> {
    fn object(
        &mut self,
        cursor: &mut Cursor<'_>,
        depth: usize,
        inside: Inside,
    ) -> Result<(), Malformed> {
        let before = self.path.len();
        let mut tool = Tool::default();
        cursor.object(depth, |cursor, name, depth| {
            self.enter(name);
            tool.look(cursor, name);
            self.member(cursor, name, depth, inside)?;
            self.path.truncate(before);
            Ok(())
        })?;
        // What chooses among tools names one without its address.
        if tool.is_elsewhere() && !self.path.starts_with(CHOICE) {
            self.found.servers.push(Server {
                host: None,
                place: self.path.as_str().into(),
            });
        }
        Ok(())
    }

    fn member(
        &mut self,
        cursor: &mut Cursor<'_>,
        name: &[u8],
        depth: usize,
        around: Inside,
    ) -> Result<(), Malformed> {
        if around == Inside::OwnNames {
            return self.value(cursor, depth, None, Inside::Known);
        }
        let is_top = depth == 1;
        let inside = inside(name);
        if inside == Inside::Own && !(is_top && name == b"input") {
            return cursor.skip(depth);
        }
        let mut mention = mention(name);
        if mention.is_none() {
            refuse_folded(name, names())?;
        }
        if is_top && mention == Some(Mention::Audio) {
            self.found.speaks = true;
        }
        // At the top a container is Anthropic's, which has no tag, and the sound is that of the answer.
        mention =
            mention.filter(|one| !is_top || !matches!(one, Mention::Container | Mention::Audio));
        let inside = if inside == Inside::Own {
            Inside::Known
        } else {
            inside
        };
        self.value(cursor, depth, mention, inside)
    }

    fn value(
        &mut self,
        cursor: &mut Cursor<'_>,
        depth: usize,
        mention: Option<Mention>,
        inside: Inside,
    ) -> Result<(), Malformed> {
        match (cursor.peek(), mention) {
            (_, Some(Mention::Server | Mention::Servers)) => self.server(cursor, depth, mention),
            (Some(b'{'), None | Some(Mention::Label)) => self.object(cursor, depth + 1, inside),
            // A tool describes a container that it makes, in place of the id of one.
            (Some(b'{'), Some(Mention::Container)) => {
                self.with_id(cursor, depth + 1, Kept::Container)
            }
            (Some(b'{'), Some(Mention::Audio)) => self.with_id(cursor, depth + 1, Kept::Audio),
            (Some(b'['), None | Some(Mention::Label | Mention::Id(_) | Mention::Container)) => {
                self.list(cursor, depth, mention)
            }
            (Some(b'['), Some(Mention::Audio)) => self.list(cursor, depth, mention),
            (Some(b'"'), Some(Mention::Id(kept))) => self.id(cursor, kept),
            (Some(b'"'), Some(Mention::Container)) => self.id(cursor, Kept::Container),
            (Some(b'"'), Some(Mention::Sealed)) => self.sealed(cursor, depth),
            (_, None | Some(Mention::Label | Mention::Audio)) => cursor.skip(depth),
            (_, Some(Mention::Id(_) | Mention::Container)) => self.null(cursor, depth, "an id"),
            (_, Some(Mention::Sealed)) => self.null(cursor, depth, "a string"),
        }
    }

    fn list(
        &mut self,
        cursor: &mut Cursor<'_>,
        depth: usize,
        mention: Option<Mention>,
    ) -> Result<(), Malformed> {
        let before = self.path.len();
        let mut index: usize = 0;
        cursor.array(depth + 1, |cursor, depth| {
            self.path.push_str(&format!("[{index}]"));
            self.value(cursor, depth, mention, Inside::Known)?;
            self.path.truncate(before);
            index += 1;
            Ok(())
        })
    }

    /// An object with the id of what is kept, as that of what the model has spoken before, and what else it has.
    fn with_id(
        &mut self,
        cursor: &mut Cursor<'_>,
        depth: usize,
        kept: Kept,
    ) -> Result<(), Malformed> {
        let before = self.path.len();
        let id = Some(Mention::Id(kept));
        cursor.object(depth, |cursor, name, depth| {
            self.enter(name);
            if name == ID.as_bytes() {
                self.value(cursor, depth, id, Inside::Known)?;
            } else {
                refuse_folded(name, [ID])?;
                self.member(cursor, name, depth, Inside::Known)?;
            }
            self.path.truncate(before);
            Ok(())
        })?;
        Ok(())
    }

    /// A value that is no string: it may only be `null`. Some servers would read an id out of others.
    fn null(&self, cursor: &mut Cursor<'_>, depth: usize, wanted: &str) -> Result<(), Malformed> {
        let start = cursor.at;
        cursor.skip(depth)?;
        let value = cursor.bytes.get(start..cursor.at).unwrap_or_default();
        if value.trim_ascii() == b"null" {
            return Ok(());
        }
        malformed(format!("\"{}\" must be {wanted}", self.path))
    }

    fn enter(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        let name = name.get(..name.len().min(LONGEST_NAME));
        let name = String::from_utf8_lossy(name.unwrap_or_default());
        self.path.push_str(&name);
    }

    fn id(&mut self, cursor: &mut Cursor<'_>, kept: Kept) -> Result<(), Malformed> {
        let start = cursor.at;
        let id = cursor.string()?.into();
        self.ids += 1;
        if self.ids > MOST {
            return malformed(format!(
                "the body names more than {MOST} files, vector stores and containers"
            ));
        }
        self.found.references.push(Reference {
            kept,
            id,
            at: start..cursor.at,
            place: self.path.as_str().into(),
        });
        Ok(())
    }

    /// An MCP server, or several: any value but none.
    fn server(
        &mut self,
        cursor: &mut Cursor<'_>,
        depth: usize,
        mention: Option<Mention>,
    ) -> Result<(), Malformed> {
        let start = cursor.at;
        let is_address = mention == Some(Mention::Server) && cursor.peek() == Some(b'"');
        let host = if is_address {
            host_of(&cursor.string()?)
        } else {
            cursor.skip(depth)?;
            let value = cursor.bytes.get(start..cursor.at).unwrap_or_default();
            if matches!(value.trim_ascii(), b"null" | b"[]") {
                return Ok(());
            }
            None
        };
        self.found.servers.push(Server {
            host,
            place: self.path.as_str().into(),
        });
        Ok(())
    }

    /// The tag in front of a seal. The rest is no one's business but the resource's.
    fn sealed(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Malformed> {
        let start = cursor.at + 1;
        cursor.skip(depth)?;
        let text = cursor.bytes.get(start..cursor.at - 1).unwrap_or_default();
        let Some(tag) = tag_of(text) else {
            self.found.has_bare_seals |= !text.is_empty();
            return Ok(());
        };
        self.found.references.push(Reference {
            kept: Kept::Item,
            id: tag.into(),
            at: start..start + tag.len() + 1,
            place: self.path.as_str().into(),
        });
        Ok(())
    }
}

/// The host of an address, if all who read it agree on that.
fn host_of(address: &str) -> Option<Box<str>> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'@' | b'%');
    let address = address.bytes().all(is_plain).then_some(address)?;
    let address: http::Uri = address.parse().ok()?;
    let host = address.host()?.to_ascii_lowercase();
    let is_label = |label: &str| {
        let mut letters = label.bytes();
        !label.is_empty() && letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label).then(|| host.into())
}

/// The tag that stands in front of what is sealed.
fn tag_of(text: &[u8]) -> Option<&str> {
    let (tag, rest) = text.split_at_checked(size_of::<Tag>())?;
    let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if rest.first() != Some(&SEAL) || !tag.iter().all(is_tag) {
        return None;
    }
    std::str::from_utf8(tag).ok()
}
