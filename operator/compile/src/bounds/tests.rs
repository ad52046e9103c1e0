use super::*;

fn check(bound: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(bound(text), "{text:?} should be fine");
    }
    for text in bad {
        assert!(!bound(text), "{text:?} should be refused");
    }
}

#[test]
fn names_have_the_bounds_of_the_api_server() {
    let long = "a".repeat(64);
    check(
        is_label,
        &["a", "a-1", &long[..63]],
        &["", "-a", "a-", "A", "a.b", "a/b", &long],
    );
    let longest = format!("{}.{}", "a".repeat(200), "b".repeat(52));
    let too_long = format!("{longest}b");
    check(
        is_subdomain,
        &["a", "a.b-1", &longest],
        &["", "a..b", ".a", "a/b", "a b", &too_long],
    );
    check(
        is_hostname,
        &["a.example", "*.a.example"],
        &["*", "*.", "a.*.b", "a:80", "*a.b", ""],
    );
}

#[test]
fn a_model_never_walks_a_path() {
    check(
        is_model,
        &["gpt-4o", "org/model", "qwen3:8b", "0x"],
        &[
            "", "..", "a/../b", "/a", "a/", "-a", "a b", "a*", "a?b", "a%2e",
        ],
    );
}

#[test]
fn a_model_pattern_has_a_star_only_at_its_end() {
    check(
        is_model_pattern,
        &["gpt-4o", "gpt-4o-*", "*", "a/*"],
        &["", "**", "*a", "a*b", "a b*"],
    );
}

#[test]
fn an_api_version_cannot_leave_its_query_parameter() {
    check(
        is_api_version,
        &["", "2024-10-21", "2025-04-01-preview", "preview", "v1"],
        &[
            "a&b=c",
            "a b",
            "A",
            "%41",
            "a#",
            "2025-13-45",
            "2024-00-01",
            "24-10-21",
            "2024-10",
            "2024-10-21preview",
            "2024-1-210",
        ],
    );
}

#[test]
fn duplicate_finds_the_second_of_two_equal_names() {
    assert_eq!(duplicate(["a", "b", "a", "b"].into_iter()), Some((2, "a")));
    assert_eq!(duplicate(["a", "b"].into_iter()), None);
}
