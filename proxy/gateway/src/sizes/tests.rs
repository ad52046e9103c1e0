use std::time::Duration;

use super::*;

fn name(text: &str) -> ObjectName {
    ObjectName::new("ns", text)
}

fn teach(rule: &RuleSizes, model: &str, output_tokens: u64) {
    let shape = Shape {
        body_bytes: 100,
        ..Shape::default()
    };
    let usage = Usage {
        input_tokens: 10,
        output_tokens,
        ..Usage::default()
    };
    for _ in 0..20 {
        rule.observe(&model.into(), shape, usage, Duration::ZERO);
    }
}

fn output(rule: &RuleSizes, model: &str) -> Option<u64> {
    rule.expected(model).output_tokens
}

#[test]
fn each_model_of_each_rule_has_its_own_sizes() {
    let learned = Sizes::default();
    let a = learned.rule(&name("r"), &"a".into());
    let b = learned.rule(&name("r"), &"b".into());
    teach(&a, "m", 5);
    teach(&a, "n", 7);
    assert_eq!((output(&a, "m"), output(&a, "n")), (Some(5), Some(7)));
    assert_eq!((output(&a, "o"), output(&b, "m")), (None, None));
}

#[test]
fn a_rule_of_the_same_name_keeps_its_observed_sizes() {
    let learned = Sizes::default();
    teach(&learned.rule(&name("r"), &"a".into()), "m", 5);
    let again = learned.rule(&name("r"), &"a".into());
    assert_eq!(output(&again, "m"), Some(5));
    let elsewhere = learned.rule(&name("s"), &"a".into());
    assert_eq!(output(&elsewhere, "m"), None);
}

#[test]
fn models_beyond_those_of_a_rule_share_one_entry() {
    let learned = Sizes::default();
    let rule = learned.rule(&name("r"), &"a".into());
    for index in 0..MODELS_PER_RULE {
        teach(&rule, &format!("m{index}"), 5);
    }
    assert_eq!(output(&rule, "x"), None);
    teach(&rule, "x", 9);
    assert_eq!((output(&rule, "x"), output(&rule, "y")), (Some(9), Some(9)));
    assert_eq!(output(&rule, "m0"), Some(5));
    assert_eq!(rule.models.read().len(), MODELS_PER_RULE);
}

#[test]
fn entries_are_bounded_and_removed_rules_make_room() {
    let learned = Sizes::default();
    let rule = |index: usize| learned.rule(&name("r"), &format!("rule{index}").into());
    for index in 0..ENTRIES.div_ceil(MODELS_PER_RULE) {
        let rule = rule(index);
        for model in 0..MODELS_PER_RULE {
            rule.observe(
                &format!("m{model}").into(),
                Shape::default(),
                Usage::default(),
                Duration::ZERO,
            );
        }
    }
    assert_eq!(learned.entries.load(Ordering::Relaxed), ENTRIES);
    let held = rule(0);
    assert_eq!(learned.rules.lock().len(), 1, "the other rules are gone");
    assert_eq!(learned.entries.load(Ordering::Relaxed), 0);
    teach(&held, "m", 5);
    assert_eq!(output(&held, "m"), Some(5));
}

#[test]
fn without_room_a_new_model_shares_the_common_entry() {
    let learned = Sizes::default();
    let rule = learned.rule(&name("r"), &"a".into());
    learned.entries.store(ENTRIES, Ordering::Relaxed);
    teach(&rule, "m", 5);
    assert_eq!((output(&rule, "m"), output(&rule, "n")), (Some(5), Some(5)));
    assert!(rule.models.read().is_empty());
}
