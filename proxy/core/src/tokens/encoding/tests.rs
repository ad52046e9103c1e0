use proptest::prelude::*;

use super::{Encoding, PIECE, cut};

const BOTH: [Encoding; 2] = [Encoding::Cl100k, Encoding::O200k];

fn all(encoding: Encoding, text: &str) -> u64 {
    encoding.count(text, u64::MAX)
}

#[test]
fn the_vocabulary_follows_the_model() {
    let check = |models: &[&str], expect: Option<Encoding>| {
        for model in models {
            assert_eq!(Encoding::of_model(model), expect, "{model}");
        }
    };
    check(
        &[
            "gpt-4o",
            "gpt-4o-mini-2024-07-18",
            "gpt-4.1-nano",
            "gpt-4.5-preview",
            "gpt-5",
            "gpt-5.4-mini",
            "gpt-chat-latest",
            "o1",
            "o3-mini",
            "o4-mini-2025-04-16",
        ],
        Some(Encoding::O200k),
    );
    check(
        &[
            "gpt-4",
            "gpt-4-turbo-2024-04-09",
            "gpt-35-turbo",
            "gpt-3.5-turbo-0125",
            "text-embedding-3-large",
            "text-embedding-ada-002",
        ],
        Some(Encoding::Cl100k),
    );
    check(
        &[
            "",
            "o",
            "o10",
            "o3x",
            "claude-sonnet-4-5",
            "DeepSeek-V3",
            "gpt-oss-120b",
            "my-gpt-4o",
        ],
        None,
    );
}

/// `tiktoken.get_encoding(..).encode_ordinary(..)` of `OpenAI`'s own tiktoken 0.14: cl100k, o200k.
#[test]
fn counts_what_openais_tokenizer_counts() {
    for (text, cl100k, o200k) in include!("tests/openai.in") {
        let text: &str = text;
        assert_eq!(all(Encoding::Cl100k, text), cl100k, "cl100k: {text:?}");
        assert_eq!(all(Encoding::O200k, text), o200k, "o200k: {text:?}");
    }
}

#[test]
fn a_long_text_is_the_sum_of_its_sentences() {
    let sentence = "The quick brown fox jumps over the lazy dog, again and again (12 times).";
    let text = vec![sentence; 1_000].join(" ");
    for encoding in BOTH {
        let first = all(encoding, sentence);
        let next = all(encoding, &format!(" {sentence}"));
        assert_eq!(all(encoding, &text), first + 999 * next);
    }
}

#[test]
fn stops_soon_after_the_budget() {
    let text = "word ".repeat(100_000);
    for encoding in BOTH {
        let counted = encoding.count(&text, 10);
        assert!(counted > 10 && counted < 2_000, "{counted}");
        assert_eq!(encoding.count("word", 0), 1);
        assert_eq!(encoding.count("", 0), 0);
    }
}

proptest! {
    #[test]
    fn a_count_stays_within_the_bytes_and_grows_with_the_budget(
        text in "(\\PC|[ \\n\\t]){0,200}", budget in 0u64..100,
    ) {
        for encoding in BOTH {
            let whole = all(encoding, &text);
            prop_assert!(whole <= u64::try_from(text.len()).unwrap());
            let stopped = encoding.count(&text, budget);
            prop_assert!(stopped <= whole);
            prop_assert!(stopped == whole || stopped > budget);
        }
    }

    #[test]
    fn a_cut_loses_nothing(text in "([a-z]{1,9}|[\u{80}-\u{2fff}]| ){1500,3000}") {
        let (piece, rest) = cut(&text);
        prop_assert_eq!(format!("{piece}{rest}"), text.as_str());
        prop_assert!(!piece.is_empty() && piece.len() <= PIECE);
    }
}
