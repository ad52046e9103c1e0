use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::client::{Answer, SOON, build, last, open, post, request, run, send, sim, sim_with};
use crate::{Config, Outcome, Sim, Usage};

const V1: &str = "/openai/v1/responses";

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "input": "Hello there"});
    let fields = body.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    body
}

async fn send_to(sim: &Sim, method: &str, path: &str) -> Answer {
    send(sim, build(method, path, &[("api-key", "sim-key")], "")).await
}

async fn get(sim: &Sim, id: &str) -> Answer {
    send_to(sim, "GET", &format!("{V1}/{id}")).await
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

/// A simulator whose background responses take that long.
fn sim_in_background(time: Duration, deployment: &str) -> Sim {
    Sim::start(&Config {
        background_time: time,
        deployments: vec![deployment.parse().unwrap()],
        ..Config::default()
    })
    .unwrap()
}

#[test]
fn answers_in_the_shape_of_azure_and_bills_what_it_says() {
    run(async {
        let sim = sim();
        let answer = post(&sim, V1, &ask(&json!({}))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("x-ms-deployment-name"), "gpt-4o");
        let json = answer.json();
        assert_eq!(
            json["model"], "gpt-4o-2024-11-20",
            "the model, not the deployment"
        );
        assert_eq!(json["status"], "completed");
        assert!(json["completed_at"].is_u64() && json["error"].is_null());
        assert_eq!(json["content_filters"][0]["source_type"], "prompt");
        assert_eq!(json["content_filters"][1]["source_type"], "completion");
        let usage = json!({
            "input_tokens": 8, "output_tokens": 16, "total_tokens": 24,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        });
        assert_eq!(json["usage"], usage);
        let billed = sim.billed().deployments["gpt-4o"];
        assert_eq!((billed.prompt_tokens, billed.completion_tokens), (8, 16));
        get(&sim, &id(&json)).await;
        assert_eq!(last(&sim).await.deployment.as_deref(), Some("gpt-4o"));
        assert_eq!(
            sim.billed().deployments["gpt-4o"].requests,
            1,
            "reading is free"
        );
    });
}

#[test]
fn writes_named_and_numbered_events_without_done() {
    run(async {
        let sim = sim();
        let answer = post(&sim, V1, &ask(&json!({"stream": true}))).await;
        let events: Vec<&str> = answer.text.trim_end().split("\n\n").collect();
        assert_eq!(events.len(), 2 + 2 + 16 + 3 + 1);
        for (number, event) in events.iter().enumerate() {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            assert_eq!(data["sequence_number"], number);
            let is_terminal = number + 1 == events.len();
            let usage = &data["response"]["usage"];
            assert_eq!(usage.is_object(), is_terminal, "usage comes last: {event}");
        }
        assert!(!answer.text.contains("[DONE]"));
        let record = last(&sim).await;
        assert_eq!((record.chunks, record.usage.completion_tokens), (24, 16));
    });
}

#[test]
fn knows_only_its_own_ids() {
    run(async {
        let (here, there) = (sim(), sim());
        let answer = post(&here, V1, &ask(&json!({}))).await.json();
        assert_eq!(get(&here, &id(&answer)).await.status, 200);
        let unknown = get(&there, &id(&answer)).await;
        assert_eq!(unknown.status, 404);
        let error = &unknown.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(
            error["message"],
            format!("Response with id '{}' not found.", id(&answer))
        );
        let items = format!("{V1}/{}/input_items", id(&answer));
        assert_eq!(send_to(&there, "GET", &items).await.status, 404);
        let cancel = format!("{V1}/{}/cancel", id(&answer));
        assert_eq!(send_to(&there, "POST", &cancel).await.status, 404);
        let next = json!({"previous_response_id": id(&answer)});
        let refused = post(&there, V1, &ask(&next)).await;
        assert_eq!(refused.status, 400);
        assert_eq!(
            refused.json()["error"]["code"],
            "previous_response_not_found"
        );
    });
}

#[test]
fn a_project_has_responses_of_its_own_and_agents() {
    run(async {
        let sim = sim();
        let agent = json!({"type": "agent_reference", "name": "gpt-4o"});
        let body = json!({"input": "Hi", "agent_reference": agent});
        let path = "/api/projects/p/openai/v1/responses";
        let answer = post(&sim, path, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let dated = "/api/projects/p/openai/responses?api-version=v1";
        assert_eq!(post(&sim, dated, &body).await.status, 200);
        assert_eq!(
            post(&sim, V1, &body).await.status,
            400,
            "only a project has agents"
        );
        let id = id(&answer.json());
        assert_eq!(get(&sim, &id).await.status, 404);
        assert_eq!(
            send_to(&sim, "GET", &format!("{path}/{id}")).await.status,
            200
        );
    });
}

#[test]
fn bills_a_background_response_once_however_often_it_is_polled() {
    run(async {
        let time = Duration::from_millis(60);
        let sim = sim_in_background(time, "gpt-4o,reasoning=4");
        let answer = post(&sim, V1, &ask(&json!({"background": true})))
            .await
            .json();
        assert_eq!(
            (&answer["status"], &answer["usage"]),
            (&json!("queued"), &Value::Null)
        );
        assert_eq!(last(&sim).await.usage, Usage::default());
        let mut status = answer["status"].clone();
        while status != "completed" {
            let polled = get(&sim, &id(&answer)).await.json();
            assert_eq!(polled["usage"].is_object(), polled["status"] == "completed");
            status = polled["status"].clone();
        }
        get(&sim, &id(&answer)).await;
        let billed = sim.billed().deployments["gpt-4o"];
        assert_eq!((billed.requests, billed.prompt_tokens), (1, 8));
        assert_eq!((billed.completion_tokens, billed.reasoning_tokens), (20, 4));
    });
}

#[test]
fn a_background_response_outlives_its_reader_and_is_not_billed_while_queued() {
    run(async {
        let sim = sim_in_background(Duration::from_secs(3600), "gpt-4o");
        let body = ask(&json!({"background": true, "stream": true}));
        let mut response = open(&sim, request(V1, &body)).await.unwrap();
        let first = response.frame().await.unwrap().unwrap();
        let text = String::from_utf8(first.into_data().unwrap().to_vec()).unwrap();
        let data = text.split_once("data: ").unwrap().1.trim_end();
        let event: Value = serde_json::from_str(data).unwrap();
        drop(response);
        assert_eq!(last(&sim).await.outcome, Outcome::AbortedByClient);
        let id = id(&event["response"]);
        assert_eq!(get(&sim, &id).await.json()["status"], "queued");
        let cancel = format!("{V1}/{id}/cancel");
        let cancelled = send_to(&sim, "POST", &cancel).await.json();
        assert_eq!(cancelled["status"], "cancelled");
        assert!(sim.billed().deployments.is_empty(), "no model saw it");
        let replay = send_to(&sim, "GET", &format!("{V1}/{id}?stream=true")).await;
        assert!(
            replay.text.contains("event: response.failed"),
            "{}",
            replay.text
        );
    });
}

#[test]
fn a_stream_without_anything_left_is_empty() {
    run(async {
        let sim = sim_in_background(Duration::ZERO, "gpt-4o");
        let body = ask(&json!({"background": true, "stream": true}));
        let stream = post(&sim, V1, &body).await;
        assert!(
            stream.text.contains("event: response.completed"),
            "{}",
            stream.text
        );
        let data = stream
            .text
            .split("data: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let id = id(&serde_json::from_str::<Value>(data).unwrap()["response"]);
        let all = send_to(&sim, "GET", &format!("{V1}/{id}?stream=true")).await;
        assert_eq!(all.text, stream.text, "the same events again");
        let rest = format!("{V1}/{id}?stream=true&starting_after=99");
        let rest = send_to(&sim, "GET", &rest).await;
        assert_eq!((rest.status.as_u16(), rest.text.as_str()), (200, ""));
        assert_eq!(last(&sim).await.outcome, Outcome::Answered);
    });
}

#[test]
fn a_stream_that_its_caller_leaves_is_cancelled_and_billed_so_far() {
    run(async {
        let config = Config {
            token_interval: Duration::from_millis(20),
            completion_tokens: 1000,
            ..Config::default()
        };
        let sim = Sim::start(&config).unwrap();
        let body = ask(&json!({"stream": true}));
        let mut response = open(&sim, request(V1, &body)).await.unwrap();
        let mut text = String::new();
        while !text.contains("output_text.delta") {
            let frame = response.frame().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        let data = text.split("data: ").nth(1).unwrap().lines().next().unwrap();
        let id = id(&serde_json::from_str::<Value>(data).unwrap()["response"]);
        assert_eq!(get(&sim, &id).await.status, 404, "not before it has ended");
        drop(response);
        let gone = |sim: &Sim| sim.requests()[0].outcome == Outcome::AbortedByClient;
        assert!(sim.wait_until(SOON, gone).await);
        let billed = sim.billed().deployments["gpt-4o"];
        assert_eq!(
            billed.completion_tokens,
            sim.requests()[0].usage.completion_tokens
        );
        assert!((1..900).contains(&billed.completion_tokens));
        let answer = loop {
            let answer = get(&sim, &id).await;
            if answer.status == 200 {
                break answer.json();
            }
        };
        assert_eq!(
            (&answer["status"], &answer["output"]),
            (&json!("cancelled"), &json!([]))
        );
    });
}

#[test]
fn faults_and_limits_apply_as_to_chat() {
    run(async {
        let sim = sim_with("d,tpm=40");
        let body = json!({"model": "d", "input": "Hello there"});
        assert_eq!(
            post(&sim, V1, &body)
                .await
                .header("x-ratelimit-remaining-tokens"),
            "21"
        );
        post(&sim, V1, &body).await;
        let refused = post(&sim, V1, &body).await;
        assert_eq!(refused.status, 429);
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains("Responses_Create Operation"), "{message}");
    });
    run(async {
        let sim = sim();
        let faults = json!([
            {"operation": "Responses_Create", "stream_error": true, "cut_after_chunks": 3, "times": 1},
            {"cut_after_chunks": 6, "times": 1},
            {"operation": "Responses_Get", "status": 503},
            {"refuse": "reasoning"},
        ]);
        sim.faults(serde_json::from_value(faults).unwrap()).unwrap();
        let streamed = ask(&json!({"stream": true}));
        let broken = post(&sim, V1, &streamed).await;
        let (_, error) = broken.text.trim_end().rsplit_once("\n\n").unwrap();
        let (name, data) = error.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((name, &data["type"]), ("event: error", &json!("error")));
        assert_eq!(
            (&data["sequence_number"], &data["error"]["type"]),
            (&json!(3), &json!("server_error"))
        );
        let cut = post(&sim, V1, &streamed).await;
        assert!(cut.cut);
        assert_eq!(last(&sim).await.usage.completion_tokens, 2);
        let answer = post(&sim, V1, &ask(&json!({}))).await.json();
        assert_eq!(get(&sim, &id(&answer)).await.status, 503);
        let refused = post(&sim, V1, &ask(&json!({"reasoning": {"effort": "low"}}))).await;
        assert_eq!(refused.json()["error"]["code"], "unsupported_parameter");
    });
}

#[test]
fn a_cap_makes_it_incomplete() {
    run(async {
        let sim = sim_with("d,reasoning=20");
        let answer = post(
            &sim,
            V1,
            &json!({"model": "d", "input": "x", "max_output_tokens": 18}),
        )
        .await;
        let json = answer.json();
        assert_eq!(json["status"], "incomplete");
        assert_eq!(
            json["incomplete_details"],
            json!({"reason": "max_output_tokens"})
        );
        let kinds: Vec<_> = json["output"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| &o["type"])
            .collect();
        assert_eq!(kinds, ["reasoning"], "the cap ended it while it thought");
        assert_eq!(
            json["usage"]["output_tokens_details"]["reasoning_tokens"],
            18
        );
        let streamed = json!({"model": "d", "input": "x", "max_output_tokens": 30, "stream": true});
        let stream = post(&sim, V1, &streamed).await;
        assert!(
            stream.text.contains("event: response.incomplete\n"),
            "{}",
            stream.text
        );
        assert_eq!(last(&sim).await.usage.completion_tokens, 30);
    });
}

#[test]
fn a_model_that_fails_ends_it_without_usage_and_is_billed_so_far() {
    run(async {
        let sim = sim_in_background(Duration::ZERO, "gpt-4o");
        let failing = |more: Value| {
            let mut body = ask(&more);
            body["input"] = json!("fail:response now");
            body
        };
        let stream = post(&sim, V1, &failing(json!({"stream": true}))).await;
        let (before, last_event) = stream.text.trim_end().rsplit_once("\n\n").unwrap();
        assert!(
            last_event.starts_with("event: response.failed\n"),
            "{last_event}"
        );
        assert!(!before.contains("output_item.done"), "its item stays open");
        let data = last_event.split_once("data: ").unwrap().1;
        let response = &serde_json::from_str::<Value>(data).unwrap()["response"];
        assert_eq!(
            (&response["status"], &response["usage"]),
            (&json!("failed"), &Value::Null)
        );
        assert_eq!(response["error"]["code"], "server_error");
        assert_eq!(last(&sim).await.usage.completion_tokens, 8);
        assert_eq!(get(&sim, &id(response)).await.json()["status"], "failed");
        let queued = post(&sim, V1, &failing(json!({"background": true})))
            .await
            .json();
        assert_eq!(get(&sim, &id(&queued)).await.json()["status"], "failed");
        let cancel = format!("{V1}/{}/cancel", id(&queued));
        let refused = send_to(&sim, "POST", &cancel).await.json();
        assert_eq!(
            refused["error"]["message"],
            "Cannot cancel a failed response."
        );
        assert_eq!(sim.billed().deployments["gpt-4o"].completion_tokens, 16);
    });
}

/// The utilization that an answer tells, in per cent.
fn used(answer: &Answer) -> f64 {
    let text = answer.header("azure-openai-deployment-utilization");
    text.trim_end_matches('%').parse().unwrap()
}

#[test]
fn holds_a_provisioned_estimate_until_the_background_has_ended() {
    run(async {
        let body = json!({
            "model": "d", "input": "x", "background": true, "max_output_tokens": 600,
        });
        let long = sim_in_background(Duration::from_secs(3600), "d,ptu=1");
        assert!(used(&post(&long, V1, &body).await) > 90.0);
        assert!(
            used(&post(&long, V1, &body).await) > 150.0,
            "not settled while it goes on"
        );
        let short = sim_in_background(Duration::ZERO, "d,ptu=1");
        assert!(used(&post(&short, V1, &body).await) > 90.0);
        let next = post(&short, V1, &json!({"model": "d", "input": "x"})).await;
        assert!(used(&next) < 10.0, "{}", used(&next));
    });
}
