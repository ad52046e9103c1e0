//! Comments, messages and documents are plain English.

use std::path::Path;

use tests_tidy::known::compare;
use tests_tidy::source::Source;
use tests_tidy::{files, is, packages, root, shown, text};

/// Phrases that an English-speaking engineer would not write. Each is matched as whole words.
const BANNED: [&str; 18] = [
    "whom",
    "who lacks",
    "whoever lacks",
    "is told",
    "are told",
    "was told",
    "told of",
    "anew",
    "so much as",
    "none if",
    "nobody",
    "for people",
    "for so long",
    "in so long",
    "so many",
    "lest",
    "in vain",
    "is none of",
];

/// Folders with phrases that golden cases hold; the list may only shrink.
const KNOWN: &[&str] = &["operator/compile"];

/// The lines of prose: comments and text of Rust files, all lines of documents.
fn prose(path: &Path) -> Vec<(usize, String)> {
    let text = text(path);
    if is(path, "rs") {
        return Source::read(&text).prose;
    }
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect()
}

/// The banned phrases of a text.
fn banned(text: &str) -> Vec<&'static str> {
    // "`None` if" is Rust's own word.
    let text = text.replace("`None`", "");
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_lowercase).collect();
    let words = format!(" {} ", words.join(" "));
    BANNED
        .into_iter()
        .filter(|phrase| words.contains(&format!(" {phrase} ")))
        .collect()
}

#[test]
fn prose_has_no_banned_phrase() {
    let mut folders: Vec<String> = packages().iter().map(|one| shown(&one.path())).collect();
    // The innermost package first.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
    let mut found = Vec::new();
    for file in files(root()) {
        let name = shown(&file);
        let is_list = name == "tests/tidy/tests/prose.rs";
        if is_list || !(is(&file, "rs") || is(&file, "md")) {
            continue;
        }
        let folder = folders
            .iter()
            .find(|folder| file.starts_with(root().join(folder)));
        let known = folder.filter(|folder| KNOWN.contains(&folder.as_str()));
        for (line, text) in prose(&file) {
            for phrase in banned(&text) {
                let breach = || format!("{name}:{line}: {phrase}");
                found.push(known.cloned().unwrap_or_else(breach));
            }
        }
    }
    compare(found, KNOWN).unwrap_or_else(|breaches| panic!("{breaches}"));
}

#[test]
fn a_banned_phrase_is_found_as_whole_words() {
    assert_eq!(
        banned("/// The caller, who\tlacks it: NOBODY."),
        ["who lacks", "nobody"]
    );
    assert_eq!(banned("the proxy is told anew"), ["is told", "anew"]);
    assert!(banned("`None` if it was renewed, retold by anyone").is_empty());
    let source = Source::read("// none if\nlet nobody = \"so many\"; /* lest */");
    let each: Vec<_> = source
        .prose
        .iter()
        .flat_map(|(_, text)| banned(text))
        .collect();
    assert_eq!(each, ["none if", "so many", "lest"]);
}
