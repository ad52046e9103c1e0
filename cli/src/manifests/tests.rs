use std::fs;
use std::path::Path;

use operator_compile::Severity;

use super::Folder;

const GOOD: &str = "\
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: https://sim.example
  auth: {type: APIKey, apiKey: {secretRef: {name: sim}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {api-key: k}
";

fn route(deployment: &str) -> String {
    format!(
        "apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {{name: chat}}
spec:
  authentication: {{anonymous: {{}}}}
  rules:
  - name: all
    backendRefs:
    - {{name: sim, deployment: {deployment}}}
"
    )
}

fn folder(dir: &Path) -> Folder {
    let mut folder = Folder::new(dir, "tundish-system");
    folder.refresh().expect("a folder");
    folder
}

#[test]
fn every_mistake_has_its_file_and_line() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.yaml"), GOOD).expect("written");
    let other = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\nx: [\n";
    fs::write(
        dir.path().join("b.yaml"),
        format!("{}{other}", route("gone")),
    )
    .expect("written");
    fs::write(dir.path().join("notes.txt"), "not read").expect("written");
    let outcome = folder(dir.path()).compile();
    let found: Vec<_> = outcome
        .findings
        .iter()
        .map(|f| (f.file.to_str().expect("text"), f.line, f.severity))
        .collect();
    assert_eq!(
        found[..2],
        [
            ("b.yaml", 9, Severity::Error),
            ("b.yaml", 12, Severity::Warning)
        ],
        "{:#?}",
        outcome.findings
    );
    assert!(
        outcome.findings[0].message.contains("gone"),
        "{}",
        outcome.findings[0]
    );
    assert_eq!(outcome.compiled.contents.backends.len(), 1);
}

#[test]
fn a_file_broken_for_a_moment_keeps_what_it_said() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.yaml"), GOOD).expect("written");
    fs::write(dir.path().join("b.yaml"), route("gpt-4o")).expect("written");
    let mut folder = folder(dir.path());
    let before = folder.compile();
    assert_eq!(before.findings, []);
    assert!(!folder.refresh().expect("read"), "nothing has changed");
    fs::write(dir.path().join("b.yaml"), "kind: [").expect("written");
    assert!(folder.refresh().expect("read"));
    let after = folder.compile();
    assert_eq!(after.compiled.contents, before.compiled.contents);
    assert_eq!(after.findings.len(), 1);
    fs::remove_file(dir.path().join("b.yaml")).expect("removed");
    assert!(folder.refresh().expect("read"));
    assert!(folder.compile().compiled.contents.routes.is_empty());
}

#[test]
fn the_same_object_twice_is_an_error_and_the_first_counts() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.yaml"), GOOD).expect("written");
    fs::write(dir.path().join("b.yaml"), GOOD).expect("written");
    let outcome = folder(dir.path()).compile();
    assert_eq!(outcome.findings.len(), 2);
    assert!(
        outcome.findings[0].message.contains("a.yaml:2"),
        "{}",
        outcome.findings[0]
    );
}
