use proptest::prelude::*;

use super::*;

prop_compose! {
    fn deployment()(cached in 0..50_u64, cache_write in 0..50_u64, reasoning in 0..50_u64,
                    audio in 0..50_u64) -> Deployment {
        let text = format!("d,cached={},cache_write={}", cached + 1, cache_write + 1);
        let settings: DeploymentConfig = text.parse().unwrap();
        let classes = Classes { cached, cache_write, reasoning, audio };
        Deployment::new(&DeploymentConfig { classes, ..settings }, Duration::from_secs(60))
    }
}

proptest! {
    #[test]
    fn classes_are_parts_of_the_input(deployment in deployment(), tokens in 0..100_u64) {
        let usage = deployment.input(tokens);
        prop_assert_eq!(usage.prompt_tokens, tokens);
        prop_assert!(usage.cached_tokens + usage.cache_write_tokens <= tokens);
    }

    #[test]
    fn no_answer_is_longer_than_its_cap(
        deployment in deployment(), whole in 0..100_u64, cap in prop::option::of(0..200_u64), n in 1..4_u64,
    ) {
        let size = deployment.size(whole, cap);
        let usage = deployment.output(size, n);
        prop_assert!(cap.is_none_or(|cap| size.tokens() <= cap));
        let is_capped = cap.is_some_and(|cap| cap < whole + deployment.classes.reasoning);
        prop_assert_eq!(size.finish == Finish::Cap, is_capped);
        prop_assert!(size.half(Finish::Filter).tokens() <= size.tokens());
        if !is_capped {
            prop_assert_eq!(size.visible, whole);
        }
        prop_assert_eq!(usage.completion_tokens, size.tokens() * n);
        prop_assert!(usage.reasoning_tokens + usage.audio_tokens <= usage.completion_tokens);
        prop_assert!(deployment.cost(0, whole, cap, n).output >= usage.completion_tokens);
    }
}
