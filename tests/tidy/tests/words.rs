//! Closed lists say nothing that the code never says.

use std::collections::BTreeSet;

use tests_tidy::known::compare;
use tests_tidy::variants::{constructed, variants};
use tests_tidy::{files, holds_tests, is, root, shown, text};

/// The closed lists: the name of the enum, and its file.
const LISTS: [(&str, &str); 2] = [
    ("Code", "proxy/core/src/names/code.rs"),
    ("Reason", "crds/src/condition.rs"),
];

/// Variants that are known to be unused; the list may only shrink.
const KNOWN: &[&str] = &[];

/// Variants of the list that no text constructs.
fn unused(name: &str, list: &str, others: &[String]) -> Vec<String> {
    let used: BTreeSet<String> = others
        .iter()
        .flat_map(|text| constructed(name, text))
        .collect();
    let unused = variants(name, list)
        .into_iter()
        .filter(|variant| !used.contains(variant));
    unused.map(|variant| format!("{name}::{variant}")).collect()
}

#[test]
fn every_word_of_a_closed_list_is_said() {
    let sources: Vec<(String, String)> = files(root())
        .into_iter()
        .filter(|file| is(file, "rs") && !holds_tests(file))
        .map(|file| (shown(&file), text(&file)))
        .filter(|(file, _)| !file.starts_with("tests/"))
        .collect();
    let mut found = Vec::new();
    for (name, file) in LISTS {
        let list = text(&root().join(file));
        assert!(
            !variants(name, &list).is_empty(),
            "no enum {name} in {file}"
        );
        let others = sources.iter().filter(|(other, _)| other != file);
        let others: Vec<String> = others.map(|(_, text)| text.clone()).collect();
        found.extend(unused(name, &list, &others));
    }
    compare(found, KNOWN).unwrap_or_else(|breaches| panic!("{breaches}"));
}

#[test]
fn a_word_that_is_only_matched_or_compared_is_not_said() {
    let list = "/// Doc.\n#[derive(Debug)]\npub enum Code {\n    /// One.\n    One,\n    #[doc(alias = \"2\")]\n    Two,\n    Three,\n    Four,\n}\nenum Other { Five }";
    assert_eq!(variants("Code", list), ["One", "Two", "Three", "Four"]);
    let other = "fn f(code: Code) -> Code {\n    match code { Code::One => Code::Two, Code::Three | Code::One => Code::Two }\n}\nfn g(code: Code) -> bool { code == Code::One || Code::One != code }\n#[cfg(test)]\nfn h() -> Code { Code::Four }";
    let others = [other.to_owned()];
    assert_eq!(
        unused("Code", list, &others),
        ["Code::One", "Code::Three", "Code::Four"]
    );
    assert_eq!(unused("Code", list, &[]).len(), 4);
}
