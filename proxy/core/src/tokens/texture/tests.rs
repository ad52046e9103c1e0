use proptest::prelude::*;

use super::{Family, LOOKED_AT, MARKS, WORDS};

fn per_mille(text: &str) -> u64 {
    Family::default().per_mille(Some(text.as_bytes()))
}

#[test]
fn numbers_and_marks_count_more_than_words() {
    assert_eq!(per_mille("all words"), 200);
    assert_eq!(per_mille("123-456"), 600);
    assert_eq!(per_mille("a1"), 400);
    assert_eq!(per_mille("[1,2]"), 390, "what JSON is made of counts less");
    assert_eq!(per_mille("стол"), 250);
}

#[test]
fn an_escape_counts_as_its_character() {
    // Three bytes of 250, or six of 125.
    assert_eq!(per_mille("表表"), 250);
    assert_eq!(per_mille(r"\u8868\u8868"), 125);
    assert_eq!(per_mille(r"\u88"), 188, "a cut one");
}

#[test]
fn without_text_it_is_as_usual() {
    assert_eq!(Family::default().per_mille(None), 250);
    assert_eq!(Family::default().per_mille(Some(b"")), 250);
    assert_eq!(Family::of_model("claude-opus-5-5").per_mille(None), 325);
}

#[test]
fn of_a_long_text_the_beginning_counts() {
    let text = "a".repeat(LOOKED_AT) + &"1".repeat(LOOKED_AT);
    assert_eq!(per_mille(&text), WORDS);
}

#[test]
fn claude_takes_more_tokens_since_opus_4_7() {
    let check = |models: &[&str], percent| {
        for model in models {
            assert_eq!(Family::of_model(model), Family(percent), "{model}");
        }
    };
    check(
        &["claude-sonnet-4-6", "Claude-Haiku-4-5", "claude-opus-4-1"],
        100,
    );
    check(
        &["claude-3-opus-latest", "grok-4", "DeepSeek-V4", "MAI-DS-R1"],
        100,
    );
    check(
        &["claude-opus-4-7", "claude-opus-5-5", "claude-sonnet-5"],
        130,
    );
    check(&["claude-fable-5", "claude-haiku-5"], 130);
}

proptest! {
    #[test]
    fn a_density_is_between_that_of_escapes_and_of_marks(text: String) {
        let density = per_mille(&text);
        prop_assert!((125..=MARKS).contains(&density), "{density}");
    }
}
