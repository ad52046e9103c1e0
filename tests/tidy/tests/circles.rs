//! No two files of a crate use each other, directly or through others.

use std::path::Path;

use tests_tidy::known::compare;
use tests_tidy::modules::{Files, circles};
use tests_tidy::{Package, files, holds_tests, is, packages, text};

/// Circles that are known; the list may only shrink.
const KNOWN: &[&str] = &[];

/// The files of a package's library, or of its binary if it has no library.
fn sources(package: &Package) -> Files {
    let folder = package.path().join("src");
    if !folder.is_dir() {
        return Files::new();
    }
    let sources = files(&folder)
        .into_iter()
        .filter(|file| is(file, "rs") && !holds_tests(file));
    let named = sources.filter_map(|file| {
        let name = file.strip_prefix(&folder).ok()?.to_str()?.to_owned();
        Some((name, text(&file)))
    });
    let mut named: Files = named
        .filter(|(name, _)| !Path::new(name).starts_with("bin"))
        .collect();
    if named.contains_key("lib.rs") {
        named.remove("main.rs");
    }
    named
}

#[test]
fn no_two_files_of_a_crate_use_each_other() {
    let mut found = Vec::new();
    for package in packages() {
        let of_package = circles(&sources(&package));
        found.extend(
            of_package
                .iter()
                .map(|circle| format!("{}: {circle}", package.name())),
        );
    }
    compare(found, KNOWN).unwrap_or_else(|breaches| panic!("{breaches}"));
}

fn check(files: &[(&str, &str)], expect: &[&str]) {
    let files = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
    assert_eq!(circles(&files.collect()), expect);
}

#[test]
fn two_files_that_use_each_other_are_a_circle() {
    check(
        &[
            ("lib.rs", "mod a;\nmod b;"),
            ("a.rs", "use crate::b::B;\npub struct A(B);"),
            ("b.rs", "pub struct B;\nfn f() { super::a::A::new(); }"),
        ],
        &["a.rs -> b.rs -> a.rs"],
    );
}

#[test]
fn a_circle_of_five_files_is_found() {
    check(
        &[
            ("lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
            ("a.rs", "use crate::b::{self, X};"),
            ("b.rs", "use super::{c::C as Other, std};"),
            ("c.rs", "use crate::{d::D, b};\npub struct C;"),
            ("d.rs", "fn f() -> crate::e::E { todo() }"),
            ("e.rs", "use crate::a;\nfn f(a: a::A) {}"),
        ],
        &["a.rs -> b.rs -> c.rs -> d.rs -> e.rs -> a.rs"],
    );
}

#[test]
fn a_parent_and_a_child_that_need_each_other_are_a_circle() {
    let child = (
        "a/child.rs",
        "use super::Parent;\npub struct Child(Parent);",
    );
    let expect = ["a.rs -> a/child.rs -> a.rs"];
    for uses in [
        "use child::Child;",
        "pub use child::Child; fn f(child: &Child) {}",
        "fn f(child: child::Child) {}",
    ] {
        let parent = format!("mod child; {uses} pub struct Parent;");
        check(&[("lib.rs", "mod a;"), ("a.rs", &parent), child], &expect);
    }
    let parent = (
        "a.rs",
        "mod child; pub use child::Child; pub struct Parent;",
    );
    check(&[("lib.rs", "mod a;"), parent, child], &[]);
}

#[test]
fn a_re_export_is_followed_to_its_home() {
    let lib = ("lib.rs", "mod a;\nmod b;\npub use a::A;");
    let a = (
        "a.rs",
        "mod inner;\npub use inner::*;\npub use inner::A as Same;",
    );
    let b = (
        "b.rs",
        "use crate::A;\npub struct B;\nfn f(same: crate::a::Same) {}",
    );
    let inner = ("a/inner.rs", "pub struct A;\nuse super::super::b::B;");
    check(&[lib, a, b, inner], &["a/inner.rs -> b.rs -> a/inner.rs"]);
}

#[test]
fn comments_text_and_tests_are_not_uses() {
    let a = r##"
        //! See [`crate::b::B`].
        /// crate::b::B
        const TEXT: &str = "crate::b::B \" crate::b::B";
        const RAW: &str = r#"crate::b::B " crate::b::B"#;
        /* crate::b::B /* crate::b::B */ crate::b::B */
        const QUOTE: char = '"';
        fn f<'a>(b: &'a str) -> char { '\'' }
        #[cfg(test)]
        mod tests { use crate::b::B; }
        #[cfg(test)]
        use crate::b::{B};
    "##;
    let b = "use crate::a::TEXT;\npub struct B;";
    check(
        &[("lib.rs", "mod a;\nmod b;"), ("a.rs", a), ("b.rs", b)],
        &[],
    );
    let used = format!("{a}\nfn g(b: crate::b::B) {{}}");
    check(
        &[("lib.rs", "mod a;\nmod b;"), ("a.rs", &used), ("b.rs", b)],
        &["a.rs -> b.rs -> a.rs"],
    );
}

#[test]
fn a_known_breach_that_is_gone_is_reported() {
    assert_eq!(compare(["a".to_owned()], &["a"]), Ok(()));
    assert!(compare(["b".to_owned()], &["a"]).is_err_and(|text| text.contains("new: b")));
    assert!(compare([], &["a"]).is_err_and(|text| text.contains("remove it from the list: a")));
}
