//! Checks of the tree itself, with only the standard library: the imports of each crate and file, and
//! the rules of the house that no other tool checks. The checks are in `tests/`; this library reads the
//! tree for them.
//!
//! It reads the files of the project only: no build output, no caches, no hidden folders.

use std::fs;
use std::path::{Path, PathBuf};

pub mod known;
pub mod modules;
pub mod source;
pub mod variants;

/// A package of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its folder, relative to the root.
    pub folder: PathBuf,
    /// The text of its manifest.
    pub manifest: String,
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Every file of the project below `folder`, sorted.
///
/// # Panics
/// A folder cannot be listed.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| fail(folder, &error));
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| fail(folder, &error));
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            let other = [
                "target",
                "node_modules",
                "corpus",
                "artifacts",
                "__pycache__",
            ];
            let hidden = name.starts_with('.') && name != ".ci";
            if !hidden && !other.contains(&&*name) {
                found.extend(files(&path));
            }
        } else if name != ".git" {
            // In a linked worktree `.git` is a file.
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text of a file; invalid UTF-8 is replaced.
///
/// # Panics
/// The file cannot be read.
pub fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| fail(path, &error));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A path as messages show it: relative to the root.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Whether a file's name ends with this extension.
pub fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Whether a Rust file holds tests only, by its name or its folder below the root.
pub fn holds_tests(path: &Path) -> bool {
    let inside = path.strip_prefix(root()).unwrap_or(path);
    let above = inside.parent().unwrap_or(inside);
    // The packages below tests/ have sources like others.
    let mut folders = above.components().skip(1).map(|part| part.as_os_str());
    inside.file_name().is_some_and(|name| name == "tests.rs") || folders.any(|part| part == "tests")
}

/// All packages: each folder with a manifest, except the root, whose manifest is virtual.
///
/// # Panics
/// A folder or a manifest cannot be read.
pub fn packages() -> Vec<Package> {
    let mut packages = Vec::new();
    for path in files(root()) {
        let Some(folder) = path.parent() else {
            continue;
        };
        if path.file_name().is_some_and(|name| name == "Cargo.toml") && folder != root() {
            let folder = folder.strip_prefix(root()).unwrap_or(folder).to_owned();
            packages.push(Package {
                folder,
                manifest: text(&path),
            });
        }
    }
    packages
}

// === impl Package ===

impl Package {
    /// Its name.
    pub fn name(&self) -> String {
        self.value("[package]", "name").unwrap_or_default()
    }

    /// Its folder, absolute.
    pub fn path(&self) -> PathBuf {
        root().join(&self.folder)
    }

    /// The value of a key in the first section of this name, without quotes.
    pub fn value(&self, section: &str, key: &str) -> Option<String> {
        let section = self.manifest.split_once(section)?.1;
        let section = section.split("\n[").next()?;
        section.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
        })
    }
}

#[expect(clippy::panic, reason = "a tree that cannot be read cannot be checked")]
fn fail(path: &Path, error: &std::io::Error) -> ! {
    panic!("{}: {error}", path.display())
}
