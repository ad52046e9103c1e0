use serde_json::{Value, json};

use super::client::{Answer, V1, body, build, post, run, send, sim};
use crate::{Config, Outcome, Record, Sim, fingerprint};

async fn control(sim: &Sim, method: &str, name: &str, body: &Value) -> Answer {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    send(sim, build(method, &format!("/_sim/{name}"), &[], &text)).await
}

#[test]
fn sets_shows_and_ends_faults() {
    run(async {
        let sim = sim();
        let faults = json!([{"status": 500, "times": 2}]);
        assert_eq!(control(&sim, "PUT", "faults", &faults).await.status, 204);
        assert_eq!(post(&sim, V1, &body(&json!({}))).await.status, 500);
        let left = control(&sim, "GET", "faults", &Value::Null).await.json();
        assert_eq!(left, json!([{"status": 500, "times": 1}]));
        assert_eq!(
            control(&sim, "DELETE", "faults", &Value::Null).await.status,
            204
        );
        assert_eq!(post(&sim, V1, &body(&json!({}))).await.status, 200);
        for wrong in [json!({}), json!([{"statsu": 500}]), json!([{"status": 42}])] {
            let refused = control(&sim, "PUT", "faults", &wrong).await;
            assert_eq!(refused.status, 400, "{wrong}");
            assert_eq!(refused.json()["error"]["code"], "sim_control");
        }
        assert_eq!(
            control(&sim, "GET", "nothing", &Value::Null).await.status,
            404
        );
    });
}

#[test]
fn records_what_it_received_as_it_received_it() {
    run(async {
        let sim = sim();
        let headers = [("api-key", "sim-key"), ("x-team", "search")];
        let text = body(&json!({})).to_string();
        send(
            &sim,
            build("POST", "/openai/v1/chat/completions?a=b", &headers, &text),
        )
        .await;
        let json = control(&sim, "GET", "requests", &Value::Null).await.json();
        let records: Vec<Record> = serde_json::from_value(json).unwrap();
        let [record] = records.as_slice() else {
            panic!("one record expected")
        };
        assert_eq!((record.method.as_str(), record.path.as_str()), ("POST", V1));
        assert_eq!(record.query, "a=b");
        assert_eq!(record.header("x-team"), Some("search"));
        assert_eq!(record.header("api-key"), Some("sim-key"));
        assert_eq!(record.body, text);
        assert_eq!(record.deployment.as_deref(), Some("gpt-4o-mini"));
        assert_eq!(record.key, Some(fingerprint("sim-key")));
        assert_eq!(
            (record.outcome, record.status),
            (Outcome::Answered, Some(200))
        );
        assert_eq!(record.protocol, "HTTP/1.1");
        assert!(record.received_ms > 1_700_000_000_000);
        assert_eq!(
            control(&sim, "DELETE", "requests", &Value::Null)
                .await
                .status,
            204
        );
        assert!(sim.requests().is_empty());
        post(&sim, V1, &body(&json!({}))).await;
        assert_eq!(sim.requests()[0].id, 1, "ids go on");
    });
}

#[test]
fn keeps_the_last_records_only_or_none() {
    run(async {
        let sim = Sim::start(&Config {
            record: 2,
            ..Config::default()
        })
        .unwrap();
        for _ in 0..5 {
            post(&sim, V1, &body(&json!({}))).await;
        }
        let kept: Vec<_> = sim.requests().iter().map(|r| (r.id, r.outcome)).collect();
        assert_eq!(kept, [(3, Outcome::Answered), (4, Outcome::Answered)]);
        let off = Sim::start(&Config {
            record: 0,
            ..Config::default()
        })
        .unwrap();
        post(&off, V1, &body(&json!({}))).await;
        assert!(off.requests().is_empty());
        assert_eq!(
            off.billed().deployments["gpt-4o-mini"].requests,
            1,
            "still billed"
        );
    });
}

#[test]
fn rotates_keys_and_bills_per_key_and_deployment() {
    run(async {
        let sim = sim();
        post(&sim, V1, &body(&json!({}))).await;
        assert_eq!(
            control(&sim, "PUT", "keys", &json!(["new-key"]))
                .await
                .status,
            204
        );
        assert_eq!(post(&sim, V1, &body(&json!({}))).await.status, 401);
        let request = body(&json!({"model": "gpt-4o", "max_tokens": 1})).to_string();
        let answer = send(&sim, build("POST", V1, &[("api-key", "new-key")], &request)).await;
        assert_eq!(answer.status, 200);
        let billed = control(&sim, "GET", "billed", &Value::Null).await.json();
        let first = json!({"requests": 1, "prompt_tokens": 8, "completion_tokens": 16});
        let second = json!({"requests": 1, "prompt_tokens": 8, "completion_tokens": 1});
        let expect = json!({
            "deployments": {"gpt-4o-mini": first, "gpt-4o": second},
            "keys": {fingerprint("sim-key"): first, fingerprint("new-key"): second},
        });
        assert_eq!(billed, expect);
        assert_eq!(serde_json::to_value(sim.billed()).unwrap(), expect);
    });
}

#[test]
fn stops_when_dropped() {
    run(async {
        let sim = sim();
        let addr = sim.addr();
        post(&sim, V1, &body(&json!({}))).await;
        drop(sim);
        assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    });
}

#[test]
fn names_a_key_by_its_sha256() {
    // The SHA-256 of nothing is widely known.
    assert_eq!(fingerprint(""), "key-e3b0c442");
}
