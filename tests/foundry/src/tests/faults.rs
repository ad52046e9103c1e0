use serde_json::{Value, json};

use super::client::{
    Answer, SOON, V1, body, build, call, last, open, post, request, run, send, send_h2, sim,
};
use crate::{Fault, Outcome, Sim};

/// A simulator with these faults, set as the control API has them.
fn faulty(faults: Value) -> Sim {
    let sim = sim();
    sim.faults(serde_json::from_value(faults).unwrap()).unwrap();
    sim
}

async fn stream(sim: &Sim) -> Answer {
    post(sim, V1, &body(&json!({"stream": true}))).await
}

#[test]
fn answers_a_status_with_azures_body_or_the_given_one_and_counts_down() {
    run(async {
        let sim = faulty(json!([
            {"status": 503, "times": 1},
            {"status": 429, "headers": {"retry-after": "7"}, "times": 1},
            {"status": 418, "body": {"error": {"code": "teapot"}}, "times": 1},
            {"status": 502, "body": "<html>", "times": 1,
             "headers": {"content-type": "text/html"}},
        ]));
        let down = post(&sim, V1, &body(&json!({}))).await;
        assert_eq!(down.status, 503);
        assert_eq!(down.json()["error"]["type"], "server_error");
        let busy = post(&sim, V1, &body(&json!({}))).await;
        assert_eq!(
            (busy.status.as_u16(), busy.header("retry-after")),
            (429, "7")
        );
        assert_eq!(busy.json()["error"]["code"], "429");
        let teapot = post(&sim, V1, &body(&json!({}))).await;
        assert_eq!(teapot.json(), json!({"error": {"code": "teapot"}}));
        let page = post(&sim, V1, &body(&json!({}))).await;
        assert_eq!(
            (page.text.as_str(), page.header("content-type")),
            ("<html>", "text/html")
        );
        assert_eq!(post(&sim, V1, &body(&json!({}))).await.status, 200);
        assert_eq!(
            sim.billed().deployments["gpt-4o-mini"].requests,
            1,
            "faults are not billed"
        );
        let statuses: Vec<_> = sim.requests().iter().filter_map(|r| r.status).collect();
        assert_eq!(statuses, [503, 429, 418, 502, 200]);
    });
}

#[test]
fn matches_by_deployment_and_key() {
    run(async {
        let sim = faulty(json!([
            {"deployment": "gpt-4o", "status": 500},
            {"api_key": "second", "status": 502},
        ]));
        sim.keys(&["sim-key".to_owned(), "second".to_owned()]);
        let status = async |model: &str, key: &str| {
            let mut request = request(V1, &body(&json!({"model": model})));
            request
                .headers_mut()
                .insert("api-key", key.parse().unwrap());
            send(&sim, request).await.status.as_u16()
        };
        assert_eq!(status("gpt-4o-mini", "sim-key").await, 200);
        assert_eq!(status("gpt-4o", "sim-key").await, 500);
        assert_eq!(status("gpt-4o-mini", "second").await, 502);
        assert_eq!(
            status("gpt-4o", "second").await,
            500,
            "the first match applies"
        );
    });
}

#[test]
fn matches_by_operation() {
    run(async {
        let sim = faulty(json!([{"operation": "Models_List", "status": 500}]));
        assert_eq!(post(&sim, V1, &body(&json!({}))).await.status, 200);
        let list = build("GET", "/openai/v1/models", &[("api-key", "sim-key")], "");
        assert_eq!(send(&sim, list).await.status, 500);
    });
}

#[test]
fn cuts_a_stream_after_some_chunks() {
    run(async {
        let sim = faulty(json!([{"cut_after_chunks": 4}]));
        let answer = stream(&sim).await;
        assert!(answer.cut);
        assert_eq!(answer.events().len(), 4);
        let record = last(&sim).await;
        assert_eq!((record.outcome, record.chunks), (Outcome::CutByFault, 4));
        assert_eq!(record.usage.completion_tokens, 2);
        assert_eq!(sim.billed().deployments["gpt-4o-mini"].completion_tokens, 2);
        let whole = post(&sim, V1, &body(&json!({}))).await;
        assert!(whole.cut, "a whole answer is cut before its first byte");
        assert_eq!(whole.text, "");
    });
}

#[test]
fn cuts_http2_streams_too() {
    run(async {
        let sim = faulty(json!([{"cut_after_chunks": 3}]));
        let answer = send_h2(&sim, V1, &body(&json!({"stream": true}))).await;
        assert!(answer.cut);
        assert_eq!(last(&sim).await.chunks, 3);
    });
}

#[test]
fn truncates_whole_answers_and_chunks() {
    run(async {
        let sim = faulty(json!([{"truncate": true, "cut_after_chunks": 2}]));
        let whole = post(&sim, V1, &body(&json!({}))).await;
        assert!(whole.cut);
        let promised: usize = whole.header("content-length").parse().unwrap();
        assert_eq!(whole.text.len(), promised / 2);
        let answer = stream(&sim).await;
        assert!(answer.cut);
        assert_eq!(answer.events().len(), 2);
        assert!(
            !answer.text.ends_with("\n\n"),
            "half of the third chunk follows"
        );
    });
}

#[test]
fn ends_a_stream_with_an_error_event() {
    run(async {
        let sim = faulty(json!([{"stream_error": true, "cut_after_chunks": 3}]));
        let answer = stream(&sim).await;
        assert!(!answer.cut, "the body ends properly");
        let events = answer.events();
        assert_eq!(events.len(), 4);
        let error: Value = serde_json::from_str(events[3]).unwrap();
        assert_eq!(error["error"]["type"], "server_error");
        assert_eq!(last(&sim).await.outcome, Outcome::CutByFault);
    });
}

#[test]
fn hangs_until_the_caller_leaves() {
    run(async {
        let sim = faulty(json!([{"hang": true, "times": 1}]));
        let hanging = call(&sim, &body(&json!({})));
        assert!(sim.wait_until(SOON, |sim| !sim.requests().is_empty()).await);
        assert_eq!(
            post(&sim, V1, &body(&json!({}))).await.status,
            200,
            "others are served"
        );
        assert!(!hanging.is_finished());
        hanging.abort();
        let gone = |sim: &Sim| sim.requests()[0].outcome == Outcome::AbortedByClient;
        assert!(sim.wait_until(SOON, gone).await);
    });
}

#[test]
fn falls_silent_in_a_stream() {
    run(async {
        let sim = faulty(json!([{"hang": true, "cut_after_chunks": 3}]));
        let response = open(&sim, request(V1, &body(&json!({"stream": true}))))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let mut text = String::new();
        let mut body = response.into_body();
        while text.matches("\n\n").count() < 3 {
            let frame = http_body_util::BodyExt::frame(&mut body)
                .await
                .unwrap()
                .unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        assert_eq!(sim.requests()[0].outcome, Outcome::InProgress);
        drop(body);
        let record = last(&sim).await;
        assert_eq!(
            (record.outcome, record.chunks),
            (Outcome::AbortedByClient, 3)
        );
    });
}

#[test]
fn delays_and_adds_headers_to_a_real_answer() {
    run(async {
        let sim = faulty(json!([{"delay_ms": 25, "headers": {"x-ms-region": "Mars"}}]));
        let answer = post(&sim, V1, &body(&json!({}))).await;
        assert_eq!(answer.header("x-ms-region"), "Mars");
        assert_eq!(answer.json()["usage"]["total_tokens"], 24);
        assert!(last(&sim).await.duration_ms >= 25);
    });
}

#[test]
fn refuses_faults_that_cannot_be_played() {
    let sim = sim();
    let status = Fault {
        status: Some(99),
        ..Fault::default()
    };
    assert!(sim.faults(vec![status]).is_err());
    let headers = [("a b".to_owned(), String::new())].into();
    assert!(
        sim.faults(vec![Fault {
            headers,
            ..Fault::default()
        }])
        .is_err()
    );
    let body = Some(json!({}));
    assert!(
        sim.faults(vec![Fault {
            body,
            ..Fault::default()
        }])
        .is_err()
    );
}
