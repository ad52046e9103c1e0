//! A snapshot as a few parts, each small enough for one object of the API server.
//!
//! A part is its [`Head`] as a line of JSON, and then a piece of the compressed snapshot. The heads of
//! one snapshot differ in the number of their part only: pieces of two tables are never joined.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::DecodeError;
use super::line::{Line, Snapshot};

#[cfg(test)]
mod tests;

/// Most parts of a snapshot. Readers mount this number of objects, so more would be another format.
pub const PARTS: usize = 4;

/// Longest piece in bytes. An object may have 1 MiB; its metadata and the head need some of it.
pub const PIECE_BYTES: usize = 900_000;

/// The number of this format.
const FORMAT: u32 = 1;

/// What a head says first; other files do not.
const KIND: &str = "tundish-snapshot";

/// Longest snapshot once it is decompressed, as of a line of the channel: a damaged or foreign file
/// must not fill the memory.
const LONGEST: u64 = 256 * 1024 * 1024;

/// Longest head. What has no end of a line until then is no part.
const LONGEST_HEAD: usize = 4_096;

/// What a part says of itself and of the snapshot that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    kind: String,
    format: u32,
    part: usize,
    /// The number of parts of this snapshot.
    pub parts: usize,
    revision: u64,
    digest: String,
    written_ms: i64,
    /// SHA-256 of all pieces together.
    sum: String,
}

/// A snapshot as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The snapshot. Its digest is not checked yet: see [`Snapshot::verified`].
    pub snapshot: Snapshot,
    /// When it was written, in Unix milliseconds.
    pub written_ms: i64,
}

/// Why parts are no snapshot, or a snapshot cannot be split.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// There is no room for it.
    #[error("the table has {bytes} bytes when compressed, and at most {most} fit")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The bytes of all parts together.
        most: usize,
    },
    /// Something else is there.
    #[error("part {0} is no part of a snapshot")]
    Foreign(usize),
    /// Of a newer operator.
    #[error("part {part} has format {format}, and only format {FORMAT} is known")]
    Format {
        /// The number of the part.
        part: usize,
        /// What it says.
        format: u32,
    },
    /// There are fewer parts than part 0 says.
    #[error("part {0} is missing")]
    Missing(usize),
    /// The parts are not of one snapshot.
    #[error("part {0} is of another table than part 0")]
    Mixed(usize),
    /// The pieces are not those that were written.
    #[error("the parts are damaged or cut")]
    Damaged,
    /// The pieces are whole, but no snapshot that can be read.
    #[error("{0}")]
    Snapshot(#[from] DecodeError),
}

/// Splits a snapshot that is written now.
///
/// # Errors
/// [`PartsError::TooLarge`]; others are unreachable.
pub fn split(snapshot: Snapshot, now_ms: i64) -> Result<Vec<Vec<u8>>, PartsError> {
    let (revision, digest) = (snapshot.revision, snapshot.digest.clone());
    let line = Line::Snapshot(snapshot).to_bytes()?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder.write_all(&line).and_then(|()| encoder.finish());
    let compressed = compressed.map_err(|error| DecodeError::Line(error.to_string()))?;
    let most = PARTS * PIECE_BYTES;
    if compressed.len() > most {
        let bytes = compressed.len();
        return Err(PartsError::TooLarge { bytes, most });
    }
    let mut head = Head {
        kind: KIND.to_owned(),
        format: FORMAT,
        part: 0,
        parts: compressed.len().div_ceil(PIECE_BYTES),
        revision,
        digest,
        written_ms: now_ms,
        sum: hex::encode(Sha256::digest(&compressed)),
    };
    let mut parts = Vec::new();
    for piece in compressed.chunks(PIECE_BYTES) {
        let line =
            serde_json::to_vec(&head).map_err(|error| DecodeError::Line(error.to_string()))?;
        parts.push([&line, &b"\n"[..], piece].concat());
        head.part = head.part.saturating_add(1);
    }
    Ok(parts)
}

/// The head of part 0, which says how many parts there are.
///
/// # Errors
/// This is no such part.
pub fn head(part: &[u8]) -> Result<Head, PartsError> {
    read(0, part).map(|(head, _)| head)
}

/// Joins the parts of a snapshot, in their order.
///
/// # Errors
/// They are not all of one snapshot, or damaged, or not known to this version.
pub fn join(parts: &[Vec<u8>]) -> Result<Stored, PartsError> {
    let first = parts.first().ok_or(PartsError::Missing(0))?;
    let first = head(first)?;
    let mut compressed = Vec::new();
    for number in 0..first.parts {
        let part = parts.get(number).ok_or(PartsError::Missing(number))?;
        let (mut head, piece) = read(number, part)?;
        head.part = first.part;
        if head != first {
            return Err(PartsError::Mixed(number));
        }
        compressed.extend_from_slice(piece);
    }
    if hex::encode(Sha256::digest(&compressed)) != first.sum {
        return Err(PartsError::Damaged);
    }
    let mut line = Vec::new();
    let mut decoder = GzDecoder::new(&*compressed).take(LONGEST);
    decoder.read_to_end(&mut line).map_err(damaged)?;
    let Line::Snapshot(snapshot) = Line::parse(&line)? else {
        return Err(PartsError::Foreign(0));
    };
    if (snapshot.revision, &snapshot.digest) != (first.revision, &first.digest) {
        return Err(PartsError::Damaged);
    }
    Ok(Stored {
        snapshot,
        written_ms: first.written_ms,
    })
}

/// The sum is right, so the sender wrote what cannot be decompressed; its words help little.
fn damaged(_error: std::io::Error) -> PartsError {
    PartsError::Damaged
}

/// The head and the piece of the part of this number.
fn read(number: usize, part: &[u8]) -> Result<(Head, &[u8]), PartsError> {
    /// What every format says.
    #[derive(Deserialize)]
    struct Format {
        kind: String,
        format: u32,
    }
    let foreign = |_error| PartsError::Foreign(number);
    let beginning = part.get(..LONGEST_HEAD).unwrap_or(part);
    let end = beginning.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or(PartsError::Foreign(number))?;
    let (line, rest) = part.split_at(end);
    let Format { kind, format } = serde_json::from_slice(line).map_err(foreign)?;
    if kind != KIND {
        return Err(PartsError::Foreign(number));
    }
    if format != FORMAT {
        let part = number;
        return Err(PartsError::Format { part, format });
    }
    let head: Head = serde_json::from_slice(line).map_err(foreign)?;
    if head.part != number || !(1..=PARTS).contains(&head.parts) {
        return Err(PartsError::Foreign(number));
    }
    Ok((head, rest.get(1..).unwrap_or_default()))
}
