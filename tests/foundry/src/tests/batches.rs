//! Batches: their files, their states and their bill.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Answer, build, post, run, send};
use crate::{Config, Sim};

const KEY: (&str, &str) = ("api-key", "sim-key");
const KIND: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");

fn sim(time: Duration) -> Sim {
    Sim::start(&Config {
        background_time: time,
        deployments: vec!["d=gpt-4o".parse().unwrap(), "e=gpt-4o".parse().unwrap()],
        ..Config::default()
    })
    .unwrap()
}

fn line(id: &str, model: &str, text: &str) -> Value {
    json!({
        "custom_id": id, "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": text}]},
    })
}

async fn get(sim: &Sim, method: &str, path: &str) -> Answer {
    send(sim, build(method, path, &[KEY], "")).await
}

/// Makes a batch of a file with these lines.
async fn made(sim: &Sim, base: &str, query: &str, lines: &[Value]) -> Value {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{text}\r\n--b--\r\n"
    );
    let file = send(
        sim,
        build("POST", &format!("{base}/files{query}"), &[KEY, KIND], &form),
    )
    .await;
    let about = json!({
        "input_file_id": file.json()["id"], "endpoint": "/chat/completions", "completion_window": "24h",
    });
    post(sim, &format!("{base}/batches{query}"), &about)
        .await
        .json()
}

#[test]
fn runs_the_lines_of_a_file_and_bills_them() {
    run(async {
        for (base, query) in [("/openai/v1", ""), ("/openai", "?api-version=2024-10-21")] {
            let sim = sim(Duration::ZERO);
            let mut streamed = line("b", "d", "x");
            streamed["body"]["stream"] = json!(true);
            let lines = [line("a", "d", "one two"), streamed, line("c", "d", "three")];
            let batch = made(&sim, base, query, &lines).await;
            assert_eq!(
                (&batch["object"], &batch["output_file_id"]),
                (&json!("batch"), &Value::Null)
            );
            let path = format!("{base}/batches/{}{query}", batch["id"].as_str().unwrap());
            let done = get(&sim, "GET", &path).await.json();
            assert_eq!(done["status"], "completed", "{done}");
            let file = done["output_file_id"].as_str().unwrap();
            let path = format!("{base}/files/{file}/content{query}");
            let output = get(&sim, "GET", &path).await.text;
            let lines = output
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let lines: Vec<Value> = lines.collect();
            let tokens = |line: &Value| line["response"]["body"]["usage"]["total_tokens"].as_u64();
            let sum: u64 = lines.iter().filter_map(tokens).sum();
            let billed = sim.billed().deployments["d"];
            assert_eq!(billed.total(), sum, "{output}");
            assert_eq!(usize::try_from(billed.requests).unwrap(), lines.len());
            let list = get(&sim, "GET", &format!("{base}/batches{query}"))
                .await
                .json();
            let name = if query.is_empty() { "data" } else { "value" };
            assert_eq!(list[name][0]["id"], done["id"]);
        }
    });
}

#[test]
fn refuses_a_file_in_the_words_of_azure() {
    run(async {
        let sim = sim(Duration::ZERO);
        let mut other = line("b", "d", "x");
        other["url"] = json!("/v1/responses");
        for (lines, code) in [
            (
                vec![line("a", "d", "x"), line("b", "e", "x")],
                "model_mismatch",
            ),
            (vec![line("a", "f", "x")], "model_not_found"),
            (
                vec![line("a", "d", "x"), line("a", "d", "x")],
                "duplicate_custom_id",
            ),
            (vec![line("a", "d", "x"), other], "url_mismatch"),
            (vec![json!({"custom_id": "a"})], "invalid_request"),
            (vec![json!("")], "invalid_request"),
        ] {
            let batch = made(&sim, "/openai/v1", "", &lines).await;
            let path = format!("/openai/v1/batches/{}", batch["id"].as_str().unwrap());
            let failed = get(&sim, "GET", &path).await.json();
            assert_eq!(failed["status"], "failed");
            assert_eq!(failed["errors"]["data"][0]["code"], code);
        }
        assert!(sim.billed().deployments.is_empty());
    });
}

#[test]
fn a_batch_that_is_cancelled_bills_what_it_has_run() {
    run(async {
        let sim = sim(Duration::from_secs(3_600));
        let batch = made(&sim, "/openai/v1", "", &[line("a", "d", "x")]).await;
        let path = format!("/openai/v1/batches/{}", batch["id"].as_str().unwrap());
        assert_eq!(get(&sim, "GET", &path).await.json()["status"], "validating");
        let cancelled = get(&sim, "POST", &format!("{path}/cancel")).await.json();
        assert_eq!(cancelled["status"], "cancelling");
        let cancelled = get(&sim, "GET", &path).await.json();
        assert_eq!(cancelled["status"], "cancelled");
        let file = cancelled["output_file_id"].as_str().unwrap();
        let output = get(&sim, "GET", &format!("/openai/v1/files/{file}/content")).await;
        assert_eq!((output.status.as_u16(), output.text.as_str()), (200, ""));
        assert!(sim.billed().deployments.is_empty());
        let unknown = get(&sim, "GET", "/openai/v1/batches/batch_1").await;
        assert_eq!(unknown.status, 404);
    });
}
