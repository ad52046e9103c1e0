use proptest::prelude::*;

use super::{did_you_mean, nearest};

#[test]
fn a_slip_finds_the_name_that_was_meant() {
    let models = ["gpt-4o", "gpt-4o-mini", "o3", "text-embedding-3-large"];
    for (word, expect) in [
        ("gpt-4", Some("gpt-4o")),
        ("gpt-o4", Some("gpt-4o")),
        ("GPT-4O", Some("gpt-4o")),
        ("gpt-4o-mnii", Some("gpt-4o-mini")),
        ("text-embeding-3-large", Some("text-embedding-3-large")),
        ("O3", Some("o3")),
        ("o4", None),
        ("claude", None),
        ("", None),
    ] {
        assert_eq!(nearest(word, models), expect, "{word}");
    }
    assert_eq!(did_you_mean("gpt-4", models), " (did you mean gpt-4o?)");
    assert_eq!(did_you_mean("claude", models), "");
    // Of equally near ones the first.
    assert_eq!(nearest("team-x", ["team-a", "team-b"]), Some("team-a"));
}

proptest! {
    #[test]
    fn one_slip_is_forgiven(word in "[a-z]{3,12}", place in 0usize..12, letter in "[0-9]") {
        let place = place % word.len();
        let mut changed = word.clone();
        changed.replace_range(place..=place, &letter);
        let mut added = word.clone();
        added.insert_str(place, &letter);
        let mut removed = word.clone();
        removed.remove(place);
        for other in [changed, added, removed] {
            prop_assert_eq!(nearest(&other, [&*word]), if other.len() < 3 { None } else { Some(&*word) });
        }
    }
}
