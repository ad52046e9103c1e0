//! A fake API server for tests: it answers from a script of rules, and records its calls.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use crate::metrics::Metrics;

/// Longest wait of a test for an expected event.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// One call that was received.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

type Answer = (StatusCode, Value);
type Rule = Arc<dyn Fn(&Call) -> Option<Answer> + Send + Sync>;

/// The server. Rules apply in the order in which they were added; without a match it answers 404.
#[derive(Clone, Default)]
pub(crate) struct Scenario {
    rules: Vec<Rule>,
    calls: Arc<Mutex<Vec<Call>>>,
    hanging_watches: bool,
    /// Objects by path, for rules that store.
    pub(crate) stored: Arc<Mutex<BTreeMap<String, Value>>>,
}

// === impl Scenario ===

impl Scenario {
    /// Adds a rule.
    pub(crate) fn rule(
        mut self,
        rule: impl Fn(&Call) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.rules.push(Arc::new(rule));
        self
    }

    /// Answers no watch, like a cluster without changes.
    pub(crate) fn hanging_watches(mut self) -> Self {
        self.hanging_watches = true;
        self
    }

    /// Adds a rule that stores every object created, replaced or applied under a path prefix. It
    /// checks the resource version of a replacement as the API server does.
    pub(crate) fn storing(self, prefix: &'static str) -> Self {
        let stored = Arc::clone(&self.stored);
        self.rule(move |call| {
            let rest = call.path.strip_prefix(prefix)?;
            Some(store(&mut stored.lock(), call, prefix, rest))
        })
    }

    /// A client of the server.
    pub(crate) fn client(&self) -> Client {
        let scenario = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let scenario = scenario.clone();
            async move { Ok::<_, Infallible>(scenario.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Every call of this method so far.
    pub(crate) fn calls(&self, method: &Method) -> Vec<Call> {
        let calls = self.calls.lock();
        calls
            .iter()
            .filter(|call| call.method == *method)
            .cloned()
            .collect()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let bytes = body
            .collect()
            .await
            .expect("the body is in memory")
            .to_bytes();
        let call = Call {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        };
        self.calls.lock().push(call.clone());
        if call.query.contains("sendInitialEvents=true") {
            // As an API server without WatchList.
            return response(refusal(StatusCode::UNPROCESSABLE_ENTITY, "Invalid"));
        }
        if self.hanging_watches && call.query.contains("watch=true") {
            std::future::pending::<()>().await;
        }
        let answers = self.rules.iter().find_map(|rule| rule(&call));
        response(answers.unwrap_or_else(|| refusal(StatusCode::NOT_FOUND, "NotFound")))
    }
}

fn response((status, value): Answer) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(value.to_string().into_bytes()))
        .expect("the answer is well formed")
}

fn store(stored: &mut BTreeMap<String, Value>, call: &Call, prefix: &str, rest: &str) -> Answer {
    let mut body = call.body.clone();
    let name = body.pointer("/metadata/name").and_then(Value::as_str);
    let path = match (rest, name) {
        ("", Some(name)) => format!("{prefix}/{name}"),
        _ => call.path.clone(),
    };
    let present = stored.get(&path).cloned();
    match (call.method.clone(), present) {
        (Method::GET, Some(value)) => return (StatusCode::OK, value),
        (Method::GET | Method::PUT, None) => return refusal(StatusCode::NOT_FOUND, "NotFound"),
        (Method::POST, Some(_)) => return refusal(StatusCode::CONFLICT, "AlreadyExists"),
        (Method::PUT, Some(value))
            if body.pointer("/metadata/resourceVersion")
                != value.pointer("/metadata/resourceVersion") =>
        {
            return refusal(StatusCode::CONFLICT, "Conflict");
        }
        _ => {}
    }
    let version = |value: &Value| {
        let text = value
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str);
        text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let newest = stored.values().map(version).max().unwrap_or(0);
    body["metadata"]["resourceVersion"] = Value::from((newest + 1).to_string());
    if let Some(text) = body.get("stringData").cloned() {
        let fields = text.as_object().expect("stringData is an object").iter();
        let data = fields.map(|(key, text)| {
            let text = text.as_str().expect("stringData holds text");
            let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
            (
                key.clone(),
                serde_json::to_value(bytes).expect("bytes are base64 text"),
            )
        });
        body["data"] = data.collect();
    }
    stored.insert(path, body.clone());
    (StatusCode::OK, body)
}

/// An error response of the API server.
pub(crate) fn refusal(status: StatusCode, reason: &str) -> Answer {
    let value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": status.as_u16(),
    });
    (status, value)
}

/// Metrics without a scraper.
pub(crate) fn metrics() -> Metrics {
    Metrics::register(&mut Registry::default())
}

/// Waits until `probe` returns a value; yields to the tasks under test meanwhile.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = probe() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait)
        .await
        .unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}"))
}
