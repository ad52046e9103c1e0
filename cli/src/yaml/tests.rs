use serde_json::json;

use super::documents;

const TEXT: &str = "\
# a comment
---
kind: AIRoute
spec:
  rules:
  - name: one
    retry: {attempts: 2, when: [TooManyRequests]}
  - name: two
    empty:
---

--- # only a comment
# nothing
---
kind: Secret
data: |
  text
number: 1.5
";

#[test]
fn a_list_is_its_items_with_their_lines_and_json_is_yaml() {
    let list = "apiVersion: v1\nitems:\n- kind: AIRoute\n  spec: {}\n- kind: Secret\n  data: 1\nkind: List\n";
    let json = "{\n\t\"kind\": \"AIRoute\",\n\t\"spec\": {\"items\": []}\n}\n---\n{\"kind\": \"Secret\"}\n";
    for (text, expect) in [
        (list, [("AIRoute", 3), ("Secret", 5)]),
        (json, [("AIRoute", 2), ("Secret", 6)]),
    ] {
        let all = documents(text).into_iter();
        let all: Vec<_> = all.flat_map(|one| one.expect("good").items()).collect();
        let seen: Vec<_> = all
            .iter()
            .map(|one| (one.value()["kind"].clone(), one.line("kind")))
            .collect();
        assert_eq!(seen, expect.map(|(kind, line)| (json!(kind), line)));
    }
}

#[test]
fn reads_every_document_and_knows_its_lines() {
    let all = documents(TEXT);
    assert_eq!(all.len(), 2);
    let route = all[0].as_ref().expect("good");
    assert_eq!(
        route.value(),
        json!({"kind": "AIRoute", "spec": {"rules": [
            {"name": "one", "retry": {"attempts": 2, "when": ["TooManyRequests"]}},
            {"name": "two", "empty": null},
        ]}})
    );
    for (field, line) in [
        ("kind", 3),
        ("spec.rules[0].name", 6),
        ("spec.rules[0].retry.attempts", 7),
        ("spec.rules[1].name", 8),
        ("spec.rules[1].missing", 8),
        ("spec.rules[7].name", 6),
    ] {
        assert_eq!(route.line(field), line, "{field}");
    }
    let secret = all[1].as_ref().expect("good");
    assert_eq!(
        secret.value(),
        json!({"kind": "Secret", "data": "text\n", "number": 1.5})
    );
    assert_eq!(secret.line("number"), 18);
}

#[test]
fn a_broken_document_leaves_the_others() {
    let all = documents("a: 1\n---\nb: [1\n---\nc: 3\n");
    assert!(all[0].is_ok() && all[2].is_ok());
    let broken = all[1].as_ref().expect_err("broken");
    assert!((3..=4).contains(&broken.line), "{broken:?}");
}

#[test]
fn a_member_given_twice_is_an_error() {
    assert!(documents("a: 1\na: 2\n")[0].is_err());
}
