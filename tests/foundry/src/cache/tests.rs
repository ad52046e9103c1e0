use proptest::prelude::*;
use serde_json::json;

use super::*;

fn words(count: usize) -> String {
    let words: Vec<String> = (0..count).map(|number| format!("w{number}")).collect();
    words.join(" ")
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// A message whose role is one word more.
fn read(cache: &PromptCache, text: &str, now: Duration) -> u64 {
    let messages = json!([{"role": "user", "content": text}]);
    cache.read("gpt-5", &[&messages], now)
}

#[test]
fn a_prefix_counts_from_1024_tokens_in_steps_of_128() {
    for (count, cached) in [
        (1_022, 0),
        (1_023, 1_024),
        (1_150, 1_024),
        (1_151, 1_152),
        (1_300, 1_280),
    ] {
        let cache = PromptCache::default();
        let text = words(count);
        assert_eq!(read(&cache, &text, minutes(0)), 0);
        assert_eq!(read(&cache, &text, minutes(1)), cached, "{count}");
    }
}

#[test]
fn other_models_other_beginnings_and_old_prefixes_are_not_there() {
    let cache = PromptCache::default();
    let text = words(2_000);
    assert_eq!(read(&cache, &text, minutes(0)), 0);
    let messages = json!([{"role": "user", "content": text}]);
    assert_eq!(cache.read("gpt-4o", &[&messages], minutes(0)), 0);
    assert_eq!(read(&cache, &format!("x {text}"), minutes(0)), 0);
    assert_eq!(read(&cache, &format!("{text} more"), minutes(4)), 1_920);
    assert_eq!(read(&cache, &text, minutes(8)), 1_920);
    assert_eq!(read(&cache, &text, minutes(13)), 0);
}

#[test]
fn a_full_cache_forgets_what_was_not_used_for_longest() {
    let cache = PromptCache::default();
    let text = |number: u64| format!("{number} {}", words(1_100));
    for number in 0..12_000 {
        read(&cache, &text(number), Duration::from_millis(number));
    }
    let now = Duration::from_secs(12);
    assert_eq!(read(&cache, &text(11_999), now), 1_024);
    assert_eq!(read(&cache, &text(1), now), 0);
}

proptest! {
    #[test]
    fn never_more_is_cached_than_both_prompts_begin_with(common in 0_usize..3_000, rest in 0_usize..500) {
        let cache = PromptCache::default();
        let common = words(common);
        let first = format!("{common} a {}", words(rest));
        let second = format!("{common} b {}", words(rest));
        read(&cache, &first, minutes(0));
        let cached = usize::try_from(read(&cache, &second, minutes(0))).unwrap();
        let shared = common.split_whitespace().count() + 1;
        prop_assert!(cached <= shared);
        prop_assert!(shared < 1_024 || shared - cached < 128);
    }
}
