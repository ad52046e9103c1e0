//! Compiles every folder of `cases/` and compares the output.

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use tests_golden::{compile_yaml, contents, verdicts};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = fs::read_dir(folder).expect("the folder of cases can be listed");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_case_compiles_to_its_committed_output() {
    let accept = std::env::var_os("UPDATE_EXPECT").is_some();
    let cases = cases();
    assert!(!cases.is_empty(), "no cases");
    for case in cases {
        let input = case.join("input.yaml");
        let yaml =
            fs::read_to_string(&input).unwrap_or_else(|e| panic!("{}: {e}", input.display()));
        let compiled = compile_yaml(&yaml);
        for (file, text) in [
            ("contents.txt", contents(&compiled.contents)),
            ("diagnostics.txt", verdicts(&compiled)),
        ] {
            let file = case.join(file);
            assert!(
                accept || file.exists(),
                "{} is missing; write it with UPDATE_EXPECT=1, then read it",
                file.display()
            );
            expect_file![file].assert_eq(&text);
        }
    }
}

#[test]
fn every_compiled_table_can_be_sent_and_read() {
    for case in cases() {
        let yaml = fs::read_to_string(case.join("input.yaml")).expect("every case has an input");
        let contents = compile_yaml(&yaml).contents;
        let read = proxy_wire::v1::decode(&proxy_wire::v1::encode(&contents));
        let read = read.unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        assert_eq!(read, contents, "{}", case.display());
    }
}

#[test]
fn no_case_shows_a_credential() {
    for case in cases() {
        for file in ["contents.txt", "diagnostics.txt"] {
            let text = fs::read_to_string(case.join(file)).unwrap_or_default();
            for secret in ["sk-", "raw-"] {
                assert!(
                    !text.contains(secret),
                    "{}/{file} shows a key",
                    case.display()
                );
            }
        }
    }
}
