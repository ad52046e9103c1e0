//! The files of the image.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::image::Image;
use crate::tar::{Entries, Entry};

/// Where Debian keeps the licences of the libraries.
const LIBRARIES: [&str; 2] = ["libc6", "libgcc-s1"];

/// What glibc reads for names of users and hosts.
const SETTINGS: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// The layer below: the libraries of this machine that the programs are linked to.
pub(crate) fn system(programs: &[PathBuf]) -> Result<Entries> {
    let mut entries = Entries::new();
    for library in libraries(programs)? {
        let content = read(Path::new(&library))?;
        add(&mut entries, &library, 0o755, content);
    }
    for (path, text) in SETTINGS {
        add(&mut entries, path, 0o644, text.as_bytes().to_vec());
    }
    for package in LIBRARIES {
        let path = format!("/usr/share/doc/{package}/copyright");
        let content = read(Path::new(&path))?;
        add(&mut entries, &path, 0o644, content);
    }
    let shared = Entry {
        mode: 0o1777,
        content: None,
    };
    entries.insert("tmp".to_owned(), shared);
    Ok(entries)
}

/// The layer above: what changes with each build.
pub(crate) fn ours(image: &Image<'_>) -> Result<Entries> {
    let mut entries = Entries::new();
    for program in &image.programs {
        let name = program.file_name().context("a program has a name")?;
        let path = format!("usr/local/bin/{}", name.to_str().context("text")?);
        add(&mut entries, &path, 0o755, read(program)?);
    }
    let license = read(image.license)?;
    add(
        &mut entries,
        "usr/share/doc/tundish/LICENSE",
        0o644,
        license,
    );
    let others = image.licenses.as_bytes().to_vec();
    let path = "usr/share/doc/tundish/THIRD-PARTY-LICENSES";
    add(&mut entries, path, 0o644, others);
    Ok(entries)
}

/// The files that the dynamic linker loads, and itself, as `ldd` lists them:
/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`.
fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let shown = program.display();
        let output = Command::new("ldd").arg(program).output();
        let output = output.context("start ldd")?;
        ensure!(output.status.success(), "ldd {shown} fails");
        let list = String::from_utf8(output.stdout).context("ldd writes text")?;
        ensure!(
            !list.contains("not found"),
            "{shown} lacks a library: {list}"
        );
        let words = list.split_whitespace();
        found.extend(
            words
                .filter(|word| word.starts_with('/'))
                .map(str::to_owned),
        );
    }
    Ok(found)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Adds a file and the folders above it.
fn add(entries: &mut Entries, path: &str, mode: u32, content: Vec<u8>) {
    let path = path.trim_start_matches('/');
    for (end, _) in path.match_indices('/') {
        let folder = path.get(..end).unwrap_or_default().to_owned();
        entries.entry(folder).or_insert(Entry {
            mode: 0o755,
            content: None,
        });
    }
    let content = Some(content);
    entries.insert(path.to_owned(), Entry { mode, content });
}
