use serde_json::json;

use super::client::{SOON, V1, body, call, last, post, run, sim_with};

#[test]
fn throttles_tokens_with_azures_body_and_headers() {
    run(async {
        let sim = sim_with("d,tpm=100,rpm=50");
        // 11 characters are 3 tokens, and 40 are held for the answer.
        let request = body(&json!({"model": "d", "max_tokens": 40}));
        let first = post(&sim, V1, &request).await;
        assert_eq!(first.status, 200);
        assert_eq!(first.header("x-ratelimit-limit-tokens"), "100");
        assert_eq!(first.header("x-ratelimit-remaining-tokens"), "57");
        assert_eq!(first.header("x-ratelimit-reset-tokens"), "60");
        assert_eq!(first.header("x-ratelimit-limit-requests"), "50");
        assert_eq!(first.header("x-ratelimit-remaining-requests"), "49");
        assert_eq!(post(&sim, V1, &request).await.status, 200);
        let refused = post(&sim, V1, &request).await;
        assert_eq!(refused.status, 429);
        let error = &refused.json()["error"];
        assert_eq!(error["code"], "429");
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("exceeded token rate limit")
        );
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        let millis: u64 = refused.header("retry-after-ms").parse().unwrap();
        assert!(millis > 50_000 && millis <= 60_000, "{millis}");
        assert_eq!(seconds, millis.div_ceil(1000));
        assert_eq!(refused.header("x-ratelimit-remaining-tokens"), "14");
        assert_eq!(last(&sim).await.status, Some(429));
        assert_eq!(sim.billed().deployments["d"].requests, 2);
        let small = post(&sim, V1, &body(&json!({"model": "d", "max_tokens": 11}))).await;
        assert_eq!(small.status, 200, "what fits is served");
        assert_eq!(small.header("x-ratelimit-remaining-tokens"), "0");
    });
}

#[test]
fn throttles_requests() {
    run(async {
        let sim = sim_with("d,rpm=2");
        let request = body(&json!({"model": "d"}));
        for left in ["1", "0"] {
            let answer = post(&sim, V1, &request).await;
            assert_eq!(answer.header("x-ratelimit-remaining-requests"), left);
            assert_eq!(answer.header("x-ratelimit-limit-tokens"), "");
        }
        let refused = post(&sim, V1, &request).await;
        assert_eq!(refused.status, 429);
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains("exceeded call rate limit"), "{message}");
        assert!(message.contains("API version v1"), "{message}");
    });
}

#[test]
fn shows_and_bounds_the_utilization_of_provisioned_deployments() {
    run(async {
        let sim = sim_with("d,ptu=1");
        // 3 + 4 x 250 weighted tokens of 2,500, corrected to 8 + 4 x 16 when answered.
        let first = post(&sim, V1, &body(&json!({"model": "d", "max_tokens": 250}))).await;
        assert_eq!(first.header("azure-openai-deployment-utilization"), "40.1%");
        let second = post(&sim, V1, &body(&json!({"model": "d", "max_tokens": 1000}))).await;
        let used = second.header("azure-openai-deployment-utilization");
        let used: f64 = used.strip_suffix('%').unwrap().parse().unwrap();
        assert!(
            used > 150.0 && used < 163.1,
            "{used}: the first was corrected"
        );
        let third = post(&sim, V1, &body(&json!({"model": "d"}))).await;
        assert_eq!(third.status, 200, "the second was corrected as well");
    });
}

#[test]
fn refuses_above_full_utilization_while_a_large_answer_is_under_way() {
    run(async {
        let sim = sim_with("d,ptu=1");
        sim.faults(serde_json::from_value(json!([{"hang": true, "times": 1}])).unwrap())
            .unwrap();
        let hanging = call(&sim, &body(&json!({"model": "d", "max_tokens": 700})));
        assert!(sim.wait_until(SOON, |sim| sim.requests().len() == 1).await);
        // The record opens just before the charge: ask until it shows.
        let refused = loop {
            let answer = post(&sim, V1, &body(&json!({"model": "d"}))).await;
            if answer.status == 429 {
                break answer;
            }
            assert!(sim.requests().len() < 50, "never refused");
        };
        let millis: u64 = refused.header("retry-after-ms").parse().unwrap();
        assert!(millis > 0 && millis < 60_000, "{millis}");
        assert!(
            refused
                .header("azure-openai-deployment-utilization")
                .starts_with("11")
        );
        hanging.abort();
    });
}
