//! Archives in the ustar form of POSIX, as layers of images are: folders and files, owned by root, without times.

use std::collections::BTreeMap;
use std::str;

use anyhow::{Context, Result, ensure};

const BLOCK: usize = 512;

/// A file or a folder of a layer, by its path without a slash in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The access rights.
    pub mode: u32,
    /// `None` is a folder.
    pub content: Option<Vec<u8>>,
}

/// The entries of a layer, by path, so that folders come before what is in them.
pub type Entries = BTreeMap<String, Entry>;

/// The archive of these entries.
///
/// # Errors
/// A path does not fit: it may have 100 bytes.
pub fn pack(entries: &Entries) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (path, entry) in entries {
        archive.extend(header(path, entry)?);
        let content = entry.content.as_deref().unwrap_or_default();
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks end it.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(path: &str, entry: &Entry) -> Result<[u8; BLOCK]> {
    let folder = entry.content.is_none();
    let name = if folder {
        format!("{path}/")
    } else {
        path.to_owned()
    };
    ensure!(name.len() <= 100, "{name} is too long for a header");
    let size = entry.content.as_ref().map_or(0, Vec::len);
    let kind: &str = if folder { "5" } else { "0" };
    let fields: [(usize, &str); 9] = [
        (0, &name),
        (100, &format!("{:07o}\0", entry.mode)),
        (108, "0000000\0"),
        (116, "0000000\0"),
        (124, &format!("{size:011o}\0")),
        (136, "00000000000\0"),
        // The sum is taken with blanks in its place.
        (148, "        "),
        (156, kind),
        (257, "ustar\x0000"),
    ];
    let mut block = [0; BLOCK];
    for (start, text) in fields {
        put(&mut block, start, text);
    }
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    put(&mut block, 148, &format!("{sum:06o}\0 "));
    Ok(block)
}

fn put(block: &mut [u8; BLOCK], start: usize, text: &str) {
    let places = block.iter_mut().skip(start);
    for (place, byte) in places.zip(text.bytes()) {
        *place = byte;
    }
}

/// Reads an archive as [`pack`] writes it.
///
/// # Errors
/// It is cut, a sum is wrong, or it has entries of another kind.
pub fn unpack(mut archive: &[u8]) -> Result<Entries> {
    let mut entries = Entries::new();
    loop {
        let (header, rest) = archive.split_at_checked(BLOCK).context("it is cut")?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        let field = |start: usize, length: usize| -> Result<&str> {
            let bytes = header.get(start..start + length).context("a header")?;
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            str::from_utf8(text).context("a header is text")
        };
        let number = |start, length| -> Result<usize> {
            let text = field(start, length)?;
            usize::from_str_radix(text.trim(), 8).with_context(|| format!("read {text:?}"))
        };
        let others = header.iter().enumerate();
        let others = others.filter(|(place, _)| !(148..156).contains(place));
        let sum: usize = others.map(|(_, byte)| usize::from(*byte)).sum();
        ensure!(
            sum + 8 * 32 == number(148, 8)?,
            "the sum of a header is wrong"
        );
        let path = field(0, 100)?;
        let size = number(124, 12)?;
        let (padded, after) = rest
            .split_at_checked(size.next_multiple_of(BLOCK))
            .context("it is cut")?;
        let content = match field(156, 1)? {
            "5" => None,
            "0" => Some(padded.get(..size).context("it is cut")?.to_vec()),
            other => anyhow::bail!("{path} is of kind {other:?}"),
        };
        let mode = u32::try_from(number(100, 8)?)?;
        let path = path.trim_end_matches('/').to_owned();
        entries.insert(path, Entry { mode, content });
        archive = after;
    }
}
