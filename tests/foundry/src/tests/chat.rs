use serde_json::{Value, json};

use super::client::{DATED, V1, body, build, last, post, run, send, send_h2, sim};
use crate::{Config, Outcome, Sim, Usage, fingerprint};

#[test]
fn answers_both_surfaces_with_the_full_shape() {
    run(async {
        let sim = sim();
        for path in [DATED, V1] {
            let answer = post(&sim, path, &body(&json!({}))).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), "application/json");
            let json = answer.json();
            assert_eq!(json["object"], "chat.completion");
            assert_eq!(
                json["model"], "gpt-4o-mini-2024-07-18",
                "the model, not the deployment"
            );
            let choice = &json["choices"][0];
            assert_eq!(choice["finish_reason"], "stop");
            assert_eq!(choice["message"]["role"], "assistant");
            let text = choice["message"]["content"].as_str().unwrap();
            assert!(text.starts_with("A tundish is the vessel"), "{text}");
            assert_eq!(text.split_whitespace().count(), 16);
            assert_eq!(choice["content_filter_results"]["hate"]["severity"], "safe");
            let filter = &json["prompt_filter_results"][0]["content_filter_results"];
            assert_eq!(filter["jailbreak"]["detected"], false);
            let expect = json!({
                "prompt_tokens": 8, "completion_tokens": 16, "total_tokens": 24,
                "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
                "completion_tokens_details": {
                    "accepted_prediction_tokens": 0, "audio_tokens": 0,
                    "reasoning_tokens": 0, "rejected_prediction_tokens": 0,
                },
            });
            assert_eq!(json["usage"], expect);
        }
    });
}

#[test]
fn serves_http2_without_tls() {
    run(async {
        let sim = sim();
        let answer = send_h2(&sim, DATED, &body(&json!({}))).await;
        assert_eq!(answer.json()["usage"]["total_tokens"], 24);
        let streamed = send_h2(&sim, V1, &body(&json!({"stream": true}))).await;
        assert_eq!(streamed.chunks().len(), 1 + 1 + 16 + 1 + 1);
        assert_eq!(last(&sim).await.protocol, "HTTP/2.0");
    });
}

#[test]
fn ignores_the_bodys_model_on_the_dated_surface() {
    run(async {
        let answer = post(&sim(), DATED, &body(&json!({"model": "anything"}))).await;
        assert_eq!(answer.json()["model"], "gpt-4o-mini-2024-07-18");
    });
}

#[test]
fn cuts_at_either_cap_and_says_length() {
    run(async {
        let sim = sim();
        for cap in ["max_tokens", "max_completion_tokens"] {
            let json = post(&sim, V1, &body(&json!({cap: 3}))).await.json();
            assert_eq!(json["choices"][0]["message"]["content"], "A tundish is");
            assert_eq!(json["choices"][0]["finish_reason"], "length");
            assert_eq!(json["usage"]["completion_tokens"], 3);
            let json = post(&sim, V1, &body(&json!({cap: 16}))).await.json();
            assert_eq!(json["choices"][0]["finish_reason"], "stop");
        }
    });
}

#[test]
fn gives_as_many_choices_as_asked_for_and_counts_each() {
    run(async {
        let json = post(&sim(), V1, &body(&json!({"n": 3, "max_tokens": 2})))
            .await
            .json();
        let choices = json["choices"].as_array().unwrap();
        let indices: Vec<&Value> = choices.iter().map(|choice| &choice["index"]).collect();
        assert_eq!(indices, [0, 1, 2]);
        assert_eq!(json["usage"]["completion_tokens"], 6);
    });
}

#[test]
fn carries_foundrys_headers_and_returns_custom_ones() {
    run(async {
        let sim = sim();
        let headers = [
            ("api-key", "sim-key"),
            ("x-ms-client-request-id", "mine"),
            ("x-stainless-lang", "python"),
        ];
        let answer = send(
            &sim,
            build("POST", V1, &headers, &body(&json!({})).to_string()),
        )
        .await;
        assert_eq!(answer.header("x-ms-region"), "Sweden Central");
        assert_eq!(answer.header("x-ms-deployment-name"), "gpt-4o-mini");
        assert_eq!(answer.header("x-ms-client-request-id"), "mine");
        assert_eq!(answer.header("x-stainless-lang"), "python");
        assert!(!answer.header("azureml-model-session").is_empty());
        let (apim, id) = (
            answer.header("apim-request-id"),
            answer.header("x-request-id"),
        );
        assert_eq!((apim.len(), id.len()), (36, 36));
        assert_ne!(apim, id);
        assert!(
            !answer.headers.contains_key("api-key"),
            "a key is never returned"
        );
        assert!(
            !answer.headers.contains_key("x-ratelimit-limit-tokens"),
            "there is no limit"
        );
        let refused = post(&sim, "/nothing", &body(&json!({}))).await;
        assert_eq!(
            refused.header("apim-request-id").len(),
            36,
            "refusals carry them too"
        );
    });
}

#[test]
fn takes_bearer_keys_on_v1_only() {
    run(async {
        let sim = sim();
        let text = body(&json!({})).to_string();
        let status = async |path, headers: &[(&str, &str)]| {
            let answer = send(&sim, build("POST", path, headers, &text)).await;
            if answer.status == 401 {
                let json = answer.json();
                assert_eq!(json["statusCode"], 401);
                assert!(
                    json["message"]
                        .as_str()
                        .unwrap()
                        .starts_with("Unauthorized.")
                );
                assert!(json.get("error").is_none());
            }
            answer.status.as_u16()
        };
        assert_eq!(
            status(V1, &[("authorization", "Bearer sim-key")]).await,
            200
        );
        assert_eq!(
            status(DATED, &[("authorization", "Bearer sim-key")]).await,
            401
        );
        assert_eq!(status(DATED, &[("api-key", "sim-key")]).await, 200);
        assert_eq!(status(V1, &[("api-key", "wrong")]).await, 401);
        assert_eq!(last(&sim).await.key, Some(fingerprint("wrong")));
        assert_eq!(status(V1, &[("x-api-key", "sim-key")]).await, 401);
        assert_eq!(status(V1, &[]).await, 401);
    });
}

#[test]
fn refuses_in_azures_shapes() {
    run(async {
        let sim = sim();
        let check = async |path: &str, body: Value, status: u16, code: Value, part: &str| {
            let answer = post(&sim, path, &body).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.text);
            let error = &answer.json()["error"];
            assert_eq!(error["code"], code, "{path}");
            assert!(
                error["message"].as_str().unwrap().contains(part),
                "{path}: {error}"
            );
        };
        let plain = || body(&json!({}));
        let unknown = "/openai/deployments/none/chat/completions?api-version=2024-10-21";
        let no_version = "/openai/deployments/gpt-4o-mini/chat/completions";
        let options = body(&json!({"stream": true, "stream_options": {"include_usage": true}}));
        let old = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-06-01";
        let lone = body(&json!({"stream_options": {"include_usage": true}}));
        let no_model = json!({"messages": [{"role": "user", "content": "x"}]});
        check(
            unknown,
            plain(),
            404,
            json!("DeploymentNotFound"),
            "does not exist",
        )
        .await;
        check(
            V1,
            body(&json!({"model": "none"})),
            404,
            json!("DeploymentNotFound"),
            "",
        )
        .await;
        check(no_version, plain(), 404, json!("404"), "Resource not found").await;
        check(
            "/openai/v1/nothing",
            plain(),
            404,
            json!("404"),
            "Resource not found",
        )
        .await;
        check(
            V1,
            json!({"model": "x"}),
            400,
            json!("missing_required_parameter"),
            "'messages'",
        )
        .await;
        check(V1, no_model, 400, Value::Null, "model parameter").await;
        check(
            old,
            options.clone(),
            400,
            Value::Null,
            "Unrecognized request argument",
        )
        .await;
        check(V1, lone, 400, Value::Null, "only allowed when 'stream'").await;
        assert_eq!(post(&sim, DATED, &options).await.status, 200);
    });
}

#[test]
fn refuses_more_than_ten_custom_headers() {
    run(async {
        let sim = sim();
        let names: Vec<String> = (0..11).map(|n| format!("x-custom-{n}")).collect();
        let send = async |count: usize| {
            let mut headers = vec![
                ("api-key", "sim-key"),
                ("accept", "*/*"),
                ("user-agent", "t"),
            ];
            headers.extend(names.iter().take(count).map(|name| (name.as_str(), "1")));
            send(
                &sim,
                build("POST", V1, &headers, &body(&json!({})).to_string()),
            )
            .await
            .status
        };
        assert_eq!(send(10).await, 200);
        assert_eq!(send(11).await, 431);
    });
}

#[test]
fn lists_models_not_deployments() {
    run(async {
        let sim = sim();
        let get =
            async |path: &str| send(&sim, build("GET", path, &[("api-key", "sim-key")], "")).await;
        for path in ["/openai/v1/models", "/openai/models?api-version=2024-10-21"] {
            let json = get(path).await.json();
            assert_eq!(json["object"], "list");
            let models = json["data"].as_array().unwrap();
            let ids: Vec<&str> = models.iter().filter_map(|m| m["id"].as_str()).collect();
            assert!(
                ids.is_sorted() && ids.contains(&"gpt-4o-mini-2024-07-18"),
                "{ids:?}"
            );
        }
        let one = get("/openai/v1/models/gpt-4o-2024-11-20").await;
        assert_eq!(one.json()["object"], "model");
        assert_eq!(get("/openai/v1/models/gpt-4o").await.status, 404);
        assert_eq!(get("/openai/models").await.status, 404);
        let keyless = send(&sim, build("GET", "/openai/v1/models", &[], "")).await;
        assert_eq!(keyless.status, 401);
    });
}

#[test]
fn serves_on_several_threads() {
    run(async {
        let threads = 3.try_into().unwrap();
        let sim = Sim::start(&Config {
            threads,
            ..Config::default()
        })
        .unwrap();
        for _ in 0..7 {
            assert_eq!(post(&sim, V1, &body(&json!({}))).await.status, 200);
        }
        let record = last(&sim).await;
        assert_eq!((record.id, record.outcome), (6, Outcome::Answered));
        assert_eq!(
            record.usage,
            Usage {
                prompt_tokens: 8,
                completion_tokens: 16,
                ..Usage::default()
            }
        );
    });
}

#[test]
fn speaks_and_goes_on_from_what_it_has_spoken() {
    run(async {
        let sim = sim();
        let asked = json!({"model": "gpt-5", "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"},
            "messages": [{"role": "user", "content": "Sing"}]});
        let path = "/openai/v1/chat/completions";
        let answer = post(&sim, path, &asked).await.json();
        let spoken = &answer["choices"][0]["message"]["audio"];
        let mut streamed = asked.clone();
        streamed["stream"] = json!(true);
        let chunks = post(&sim, path, &streamed).await.chunks();
        let ids = chunks
            .iter()
            .filter_map(|one| one.pointer("/choices/0/delta/audio/id"));
        assert_eq!(ids.count(), 1);
        let next = |id: &Value| {
            let before = json!({"role": "assistant", "audio": {"id": id}});
            json!({"model": "gpt-5", "messages": [before, {"role": "user", "content": "More"}]})
        };
        assert_eq!(post(&sim, path, &next(&spoken["id"])).await.status, 200);
        let refused = post(&sim, path, &next(&json!("audio_1"))).await;
        assert_eq!(refused.json()["error"]["code"], "audio_not_found");
    });
}
