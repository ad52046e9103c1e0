use std::fs;
use std::path::Path;
use std::time::Duration;

use operator_compile::{Day, Severity};
use proxy_admin::clock;

use super::{Change, Folder};

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
    let mut folder = Folder::new(dir, "tundish-system", Vec::new());
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

#[test]
fn a_follower_takes_a_file_away_once_the_folder_is_quiet() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name| dir.path().join(name);
    fs::write(path("a.yaml"), GOOD).expect("written");
    fs::write(path("b.yaml"), route("gpt-4o")).expect("written");
    let mut folder = Folder::new(dir.path(), "tundish-system", Vec::new());
    let start = clock::instant();
    let follow = |folder: &mut Folder, ms| {
        let change = folder.follow(start + Duration::from_millis(ms));
        (
            change.expect("read"),
            folder.compile().compiled.contents.routes.len(),
        )
    };
    assert_eq!(follow(&mut folder, 0), (Change::Content, 1));
    fs::remove_file(path("b.yaml")).expect("removed");
    assert_eq!(follow(&mut folder, 200), (Change::None, 1));
    // Another change starts the wait again.
    fs::write(path("c.yaml"), "# nothing").expect("written");
    assert_eq!(follow(&mut folder, 2_000), (Change::Content, 1));
    assert_eq!(follow(&mut folder, 3_900), (Change::None, 1));
    assert_eq!(follow(&mut folder, 4_000), (Change::Content, 0));
    assert_eq!(follow(&mut folder, 4_200), (Change::None, 0));
    // An object that moved to another file is one object.
    fs::rename(path("a.yaml"), path("d.yaml")).expect("moved");
    assert_eq!(follow(&mut folder, 5_000), (Change::Content, 0));
    let outcome = folder.compile();
    assert_eq!(
        (outcome.findings, outcome.compiled.contents.backends.len()),
        (vec![], 1)
    );
    for name in ["c.yaml", "d.yaml"] {
        fs::write(path(name), "").expect("written");
    }
    let mut follow = |ms| {
        let change = folder.follow(start + Duration::from_millis(ms));
        (
            change.expect("read"),
            folder.compile().compiled.contents.backends.len(),
        )
    };
    assert_eq!(follow(6_000), (Change::Emptied, 1));
    assert_eq!(follow(600_000), (Change::Emptied, 1));
    fs::write(path("d.yaml"), GOOD).expect("written");
    assert_eq!(follow(600_200), (Change::Content, 1));
}

#[test]
fn a_folder_that_is_never_quiet_loses_a_file_at_last() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.yaml"), GOOD).expect("written");
    let mut folder = Folder::new(dir.path(), "tundish-system", Vec::new());
    let start = clock::instant();
    folder.follow(start).expect("read");
    fs::remove_file(dir.path().join("a.yaml")).expect("removed");
    for second in 1..=32 {
        let busy = format!("# {}", "x".repeat(second));
        fs::write(dir.path().join("b.yaml"), busy).expect("written");
        let now = start + Duration::from_secs(u64::try_from(second).expect("small"));
        folder.follow(now).expect("read");
        let backends = folder.compile().compiled.contents.backends.len();
        assert_eq!(backends, usize::from(second < 31), "{second}");
    }
}

#[test]
fn every_example_is_without_a_finding() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut folders = 0;
    for entry in fs::read_dir(examples).expect("a folder") {
        let mut path = entry.expect("an entry").path();
        if path.ends_with("gitops") {
            path.push("teams/base");
        }
        // Their Secrets are made by kubectl and by External Secrets.
        let external = ["cluster", "keys", "base"]
            .iter()
            .any(|one| path.ends_with(one));
        let mut folder = Folder::new(&path, operator_compile::INSTALLATION_NAMESPACE, Vec::new())
            .with_external_secrets(external);
        folder.refresh().expect("a folder");
        let outcome = folder.compile();
        let is_told = |message: &str| {
            let elsewhere = [
                "is not in the folder",
                "is not ours and was skipped",
                "has these labels, so no key is good here",
            ];
            external && elsewhere.iter().any(|one| message.contains(one))
        };
        let mut findings = outcome.findings.iter();
        let found = findings.find(|one| !is_told(&one.message));
        assert_eq!(found, None, "{}", path.display());
        assert!(!outcome.compiled.contents.routes.is_empty());
        folders += 1;
    }
    assert!(folders >= 4, "{folders}");
}

#[test]
fn a_quota_for_a_consumer_that_is_not_there_is_a_warning_unless_secrets_are_elsewhere() {
    const QUOTA: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: search, labels: {keys: chat}}
stringData: {key: k}
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: daily}
spec:
  match:
    consumers:
      names:
      - search
      - serach
  limits:
  - {name: day, unit: Requests, limit: 5, window: Day}
";
    let dir = tempfile::tempdir().expect("a folder");
    let route = route("gpt-4o");
    let keys = "{apiKeys: {secretSelector: {matchLabels: {keys: chat}}}}";
    let route = route.replace("{anonymous: {}}", keys);
    fs::write(
        dir.path().join("a.yaml"),
        format!("{GOOD}---\n{route}---\n{QUOTA}"),
    )
    .expect("written");
    let [found] = &*folder(dir.path()).compile().findings else {
        panic!("one finding");
    };
    assert_eq!(found.severity, Severity::Warning);
    let text = fs::read_to_string(dir.path().join("a.yaml")).expect("read");
    let line = text.lines().position(|line| line.ends_with("- serach"));
    assert_eq!(usize::try_from(found.line).ok(), line.map(|line| line + 1));
    assert!(
        found.message.contains("(did you mean search?)"),
        "{}",
        found.message
    );
    let elsewhere = folder(dir.path()).with_external_secrets(true).compile();
    assert_eq!(elsewhere.findings, []);
}

#[test]
fn a_deployment_that_retires_soon_or_has_retired_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let today = clock::now().unix_ms;
    let soon = Day::at(today + 20 * 86_400_000);
    let far = Day::at(today + 200 * 86_400_000);
    let backend = format!(
        "apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {{name: eu}}
spec:
  type: Foundry
  endpoint: https://contoso.services.ai.azure.com
  auth: {{type: None}}
  deployments:
  - {{name: gone, retires: \"2020-01-31\"}}
  - {{name: soon, retires: \"{soon}\"}}
  - {{name: far, retires: \"{far}\"}}
"
    );
    fs::write(dir.path().join("eu.yaml"), backend).unwrap();
    let mut folder = folder(dir.path());
    folder.refresh().unwrap();
    let findings = folder.compile().findings;
    let lines: Vec<_> = findings
        .iter()
        .map(|one| (one.line, one.severity))
        .collect();
    assert_eq!(lines, [(9, Severity::Warning), (10, Severity::Warning)]);
    assert!(findings[0].message.contains("gone retired on 2020-01-31"));
    let message = format!("soon retires on {soon}, in 20 days; deploy its successor");
    assert!(
        findings[1].message.contains(&message),
        "{}",
        findings[1].message
    );
}
