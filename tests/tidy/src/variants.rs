//! Which variants of a closed list are constructed.

use std::collections::BTreeSet;

use crate::source::Source;

/// The variants of `enum name`, which carry no fields, in the text of its file.
pub fn variants(name: &str, text: &str) -> Vec<String> {
    let source = Source::read(text);
    let tokens = source.product();
    let start = tokens
        .windows(3)
        .position(|three| three == ["enum", name, "{"]);
    let body = start
        .and_then(|start| tokens.get(start + 3..))
        .unwrap_or_default();
    let body = body.split(|token| *token == "}").next().unwrap_or_default();
    let each = body.split(|token| *token == ",");
    each.filter_map(|variant| {
        variant
            .iter()
            .find(|token| token.starts_with(char::is_uppercase))
    })
    .map(|variant| (*variant).to_owned())
    .collect()
}

/// The variants of `name` that `text` constructs: those that are named, but for patterns and
/// comparisons.
pub fn constructed(name: &str, text: &str) -> BTreeSet<String> {
    let source = Source::read(text);
    let tokens = source.product();
    let mut found = BTreeSet::new();
    for (index, window) in tokens.windows(3).enumerate() {
        let &[first, "::", variant] = window else {
            continue;
        };
        let token = |place: Option<usize>| place.and_then(|at| tokens.get(at)).copied();
        let before = (token(index.checked_sub(2)), token(index.checked_sub(1)));
        let after = (token(Some(index + 3)), token(Some(index + 4)));
        let in_pattern =
            after.0 == Some("|") || before.1 == Some("|") || after == (Some("="), Some(">"));
        let compared = matches!(before, (Some("=" | "!"), Some("=")))
            || matches!(after, (Some("=" | "!"), Some("=")));
        if first == name && !in_pattern && !compared {
            found.insert(variant.to_owned());
        }
    }
    found
}
