//! Members in which a JSON text mentions what a backend keeps: files, vector stores and containers by their ids,
//! and items that only the resource opens which has sealed them; and servers that it makes the provider call.
//!
//! They count wherever they stand, so that a part of a new kind hides none. Only what is the client's own JSON is
//! left alone: its metadata, schemas and arguments of tools.

use crate::body::{Kept, refuse_folded};

/// What the value of a member means to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mention {
    /// An id, or a list of them.
    Id(Kept),
    /// The id of a container, or what one is to be made of.
    Container,
    /// Sound that the model has spoken, in an object with its id.
    Audio,
    /// What a resource has sealed.
    Sealed,
    /// The address of an MCP server.
    Server,
    /// The name of an MCP server within the request.
    Label,
    /// MCP servers in another form: what the provider connects to by a name, or Anthropic's list.
    Servers,
}

const MENTIONS: [(&str, Mention); 17] = [
    ("file_id", Mention::Id(Kept::File)),
    ("file_ids", Mention::Id(Kept::File)),
    ("input_file_id", Mention::Id(Kept::File)),
    ("output_file_id", Mention::Id(Kept::File)),
    ("error_file_id", Mention::Id(Kept::File)),
    ("vector_store_id", Mention::Id(Kept::VectorStore)),
    ("vector_store_ids", Mention::Id(Kept::VectorStore)),
    ("container", Mention::Container),
    ("container_id", Mention::Id(Kept::Container)),
    ("container_ids", Mention::Id(Kept::Container)),
    ("audio", Mention::Audio),
    ("encrypted_content", Mention::Sealed),
    ("server_url", Mention::Server),
    ("server_label", Mention::Label),
    ("connector_id", Mention::Servers),
    ("tunnel_id", Mention::Servers),
    ("mcp_servers", Mention::Servers),
];
/// Members whose value is the client's own JSON, or an object with names of its own.
const OWN: [&[u8]; 8] = [
    b"metadata",
    b"parameters",
    b"schema",
    b"input_schema",
    b"arguments",
    b"attributes",
    b"headers",
    b"input",
];
/// A member with names of the client's own, whose values may be parts of a prompt.
const VARIABLES: &[u8] = b"variables";

/// What is inside of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// What the backend reads.
    Known,
    /// Values that it reads, by names that it does not.
    OwnNames,
    /// Nothing that it reads.
    Own,
}

/// What the member `name` mentions.
pub(crate) fn mention(name: &[u8]) -> Option<Mention> {
    let mut all = MENTIONS.iter();
    all.find(|(known, _)| known.as_bytes() == name)
        .map(|(_, mention)| *mention)
}

/// What is inside of the member `name`.
pub(crate) fn inside(name: &[u8]) -> Inside {
    if OWN.contains(&name) {
        Inside::Own
    } else if name == VARIABLES {
        Inside::OwnNames
    } else {
        Inside::Known
    }
}

/// Whether a name of this length that begins so may be one of them, in whatever letters. Called for each member of
/// each body.
#[inline]
pub(crate) const fn may_be(first: u8, length: usize) -> bool {
    // The shortest is `audio`; `role`, `type` and `text` are shorter.
    if length < 5 || length > 31 {
        return false;
    }
    // One bit for each length, and for that of the same name with `\u017f` in place of each `s`.
    let lengths: u32 = match first | 0x20 {
        b'a' => 1 << 5,
        b'f' => 0b111 << 7,
        b'c' => 1 << 9 | 0b111 << 12,
        b'v' => 0b1111 << 15,
        b'i' => 1 << 13,
        b'o' => 1 << 14,
        b'e' => 1 << 13 | 1 << 17,
        b'm' => 0b111 << 11,
        b's' => 1 << 10 | 1 << 12,
        b't' => 1 << 9,
        // `\u017f` in place of that s.
        0xe5 => 1 << 11 | 1 << 13,
        _ => 0,
    };
    lengths >> length & 1 == 1
}

impl Mention {
    /// What a string in its place is the id of.
    pub(crate) const fn kept(self) -> Option<Kept> {
        match self {
            Self::Id(kept) => Some(kept),
            Self::Container => Some(Kept::Container),
            Self::Audio | Self::Sealed | Self::Server | Self::Label | Self::Servers => None,
        }
    }
}

/// Whether a name is one of them, or would be for a server that ignores the case.
pub(crate) fn is_like(name: &[u8]) -> bool {
    mention(name).is_some() || refuse_folded(name, names()).is_err()
}

/// All of them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    MENTIONS.iter().map(|(name, _)| *name)
}
