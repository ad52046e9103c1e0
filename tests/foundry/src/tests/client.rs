//! A small client: one connection per call, so that a cut is seen as one.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinHandle};

use crate::{Config, Record, Sim, config::DEFAULT_KEY};

/// Longest wait for anything that should happen at once.
pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) const DATED: &str =
    "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21";
pub(super) const V1: &str = "/openai/v1/chat/completions";

pub(super) fn sim() -> Sim {
    Sim::start(&Config::default()).unwrap()
}

/// A simulator with one deployment, `d`, of that description.
pub(super) fn sim_with(deployment: &str) -> Sim {
    let deployments = vec![deployment.parse().unwrap()];
    Sim::start(&Config {
        deployments,
        ..Config::default()
    })
    .unwrap()
}

/// A chat completion for `gpt-4o-mini`: a prompt of 2 + 3 + 3 tokens, with more fields on top.
pub(super) fn body(more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hello there"}]);
    let mut body = json!({"model": "gpt-4o-mini", "messages": messages});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

/// What came back, complete or cut.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) text: String,
    pub(super) cut: bool,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The data of each whole SSE event.
    pub(super) fn events(&self) -> Vec<&str> {
        let (whole, _) = self.text.rsplit_once("\n\n").unwrap_or_default();
        whole
            .split("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect()
    }

    /// The chunks of a stream, `[DONE]` checked and left out.
    pub(super) fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        let (done, chunks) = events.split_last().unwrap();
        assert_eq!(*done, "[DONE]");
        chunks
            .iter()
            .map(|chunk| serde_json::from_str(chunk).unwrap())
            .collect()
    }
}

/// A POST with the default key.
pub(super) async fn post(sim: &Sim, path: &str, body: &Value) -> Answer {
    send(sim, request(path, body)).await
}

pub(super) fn request(path: &str, body: &Value) -> Request<Full<Bytes>> {
    build("POST", path, &[("api-key", DEFAULT_KEY)], &body.to_string())
}

pub(super) fn build(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "sim");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// Sends over HTTP/1.1 and reads to the end, or to the cut.
pub(super) async fn send(sim: &Sim, request: Request<Full<Bytes>>) -> Answer {
    let response = open(sim, request).await.unwrap();
    read(response).await
}

/// Sends over HTTP/1.1, up to the response's head.
pub(super) async fn open(
    sim: &Sim,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    let stream = TcpStream::connect(sim.addr()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    tokio::time::timeout(SOON, sender.send_request(request))
        .await
        .unwrap()
}

/// A call that is under way until its task is aborted.
pub(super) fn call(sim: &Sim, body: &Value) -> JoinHandle<()> {
    let (addr, request) = (sim.addr(), request(V1, body));
    tokio::task::spawn_local(async move {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        // Joined, so that aborting the task closes the connection.
        let (_, response) = tokio::join!(connection, sender.send_request(request));
        assert!(response.is_err(), "answered, but was to be left alone");
    })
}

/// Sends over HTTP/2 without TLS.
pub(super) async fn send_h2(sim: &Sim, path: &str, body: &Value) -> Answer {
    let stream = TcpStream::connect(sim.addr()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(connection);
    let request = build(
        "POST",
        &sim_uri(sim, path),
        &[("api-key", DEFAULT_KEY)],
        &body.to_string(),
    );
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("host");
    read(
        sender
            .send_request(Request::from_parts(parts, body))
            .await
            .unwrap(),
    )
    .await
}

fn sim_uri(sim: &Sim, path: &str) -> String {
    format!("{}{path}", sim.url())
}

pub(super) async fn read(response: Response<Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut cut = false;
    while let Some(frame) = tokio::time::timeout(SOON, body.frame()).await.unwrap() {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text,
        cut,
    }
}

/// Runs a test's future where connections can be spawned.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// The newest record, once it is closed.
pub(super) async fn last(sim: &Sim) -> Record {
    let closed = |sim: &Sim| {
        sim.requests()
            .last()
            .is_some_and(|record| record.outcome != crate::Outcome::InProgress)
    };
    assert!(
        sim.wait_until(SOON, closed).await,
        "no request came to its end"
    );
    sim.requests().pop().unwrap()
}
