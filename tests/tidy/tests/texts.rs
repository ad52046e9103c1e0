//! Text that no file of the project may contain, and copies that must not differ.

use std::collections::BTreeMap;
use std::path::Path;

use tests_tidy::{files, is, root, shown, text};

/// Files written by tools: matches there are accidents.
const GENERATED: [&str; 4] = [
    "Cargo.lock",
    "go.sum",
    "package-lock.json",
    "requirements.lock",
];

fn breaches(bans: &[&str], of: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files(root()) {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if GENERATED.contains(&&*name) || !of(&file) {
            continue;
        }
        for (number, line) in text(&file).lines().enumerate() {
            if let Some(ban) = bans.iter().find(|ban| line.contains(**ban)) {
                found.push(format!("{}:{}: {ban}", shown(&file), number + 1));
            }
        }
    }
    found
}

fn code(file: &Path) -> bool {
    let extensions = [
        "rs", "toml", "sh", "py", "mjs", "js", "yaml", "yml", "tpl", "json",
    ];
    let name = file.file_name().unwrap_or_default();
    extensions.iter().any(|extension| is(file, extension)) || name == "Makefile" || name == "run"
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    // In two parts, or this file would match.
    let bans = [
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/mn", "t/"),
    ];
    let found = breaches(&bans, |_| true);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    let found = breaches(&[concat!("TO", "DO"), concat!("FIX", "ME")], code);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_test_is_switched_off_or_made_to_panic() {
    let bans = [concat!("#[ign", "ore"), concat!("#[should_", "panic")];
    let found = breaches(&bans, |file| is(file, "rs"));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn scripts_stop_at_the_first_error() {
    for file in files(root()) {
        let code = text(&file);
        if code.starts_with("#!/usr/bin/env bash") {
            assert!(code.contains("\nset -euo pipefail\n"), "{}", shown(&file));
        }
    }
}

fn yaml_files(folder: &Path) -> BTreeMap<String, String> {
    let yaml = files(folder).into_iter().filter(|file| is(file, "yaml"));
    let named = yaml.filter_map(|file| Some((file.file_name()?.to_str()?.to_owned(), text(&file))));
    named.collect()
}

/// A test of the crate itself compares them with the output of `crdgen`.
#[test]
fn the_committed_crds_are_those_of_the_three_kinds() {
    let committed = yaml_files(&root().join("crds/yaml"));
    let names: Vec<&str> = committed.keys().map(String::as_str).collect();
    assert_eq!(names, ["aibackends.yaml", "aiquotas.yaml", "airoutes.yaml"]);
    for (name, crd) in &committed {
        let plural = name.trim_end_matches(".yaml");
        assert!(
            crd.contains(&format!("name: {plural}.tundish.dev\n")),
            "{name}"
        );
    }
}

/// The chart has copies, so that both ways to install give the same schema.
#[test]
fn the_crds_of_the_chart_are_copies_of_the_committed_ones() {
    let copies = yaml_files(&root().join("charts/tundish-crds/files"));
    let committed = yaml_files(&root().join("crds/yaml"));
    assert_eq!(copies, committed, "`make gen` copies them");
}
