use serde_json::{Value, json};

use super::*;

fn pod(metadata: &Value, status: &Value) -> Pod {
    let mut pod = json!({"metadata": {"name": "proxy-2", "uid": "u2"}, "status": status});
    let fields = metadata.as_object().expect("it is an object").clone();
    let all = pod["metadata"].as_object_mut().expect("it is an object");
    all.extend(fields);
    serde_json::from_value(pod).expect("it is a pod")
}

/// A status whose container is in this state.
fn status(phase: &str, state: &str, ready: &str) -> Value {
    json!({
        "phase": phase,
        "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [{
            "name": "proxy", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {state: {}},
        }],
    })
}

/// Whether it may serve, and whether clients are sent to it.
fn check(metadata: &Value, status: &Value, expected: Option<bool>) {
    let found = serving(&pod(metadata, status));
    let ready = found.map(|(uid, pod)| {
        assert_eq!((uid.as_str(), pod.name.as_str()), ("u2", "proxy-2"));
        pod.ready
    });
    assert_eq!(ready, expected, "{metadata} {status}");
}

#[test]
fn a_pod_may_serve_while_its_container_runs_and_it_is_not_being_deleted() {
    let none = json!({});
    check(&none, &status("Running", "running", "True"), Some(true));
    // Cut off from its node's kubelet, or past its largest age: it may still have connections.
    check(&none, &status("Running", "running", "Unknown"), Some(false));
    check(&none, &status("Running", "waiting", "False"), None);
    check(&none, &status("Failed", "running", "False"), None);
    check(&none, &json!({"phase": "Pending"}), None);
    let deleted = json!({"deletionTimestamp": "2026-11-27T10:00:00Z"});
    check(&deleted, &status("Running", "running", "True"), None);
}
