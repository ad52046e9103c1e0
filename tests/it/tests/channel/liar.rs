//! A peer that speaks the channel's HTTP and sends arbitrary lines: an operator that is newer, broken or
//! out of step.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use proxy_wire::v1::{Ack, Line};
use tests_support::eventually;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::parts::PATIENCE;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Aborts its task when it is dropped.
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Lines for each subscription, in order; further subscriptions get the last ones.
    script: Vec<Vec<Bytes>>,
    subscriptions: Mutex<Vec<String>>,
    acks: Mutex<Vec<Ack>>,
    reports: AtomicUsize,
}

/// The bytes of a line.
pub(crate) fn line(line: &Line) -> Result<Bytes> {
    Ok(line.to_bytes()?.into())
}

impl Liar {
    /// Sends the lines of `script[n]` to the n-th subscription, which stays open.
    pub(crate) async fn start(script: Vec<Vec<Bytes>>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen {
            script,
            ..Seen::default()
        });
        let shared = Arc::clone(&seen);
        let task = proxy_admin::task::spawn("liar", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let seen = Arc::clone(&seen);
                    async move { Ok::<_, Infallible>(answer(&seen, request).await) }
                });
                proxy_admin::task::spawn("liar's connection", async move {
                    // The proxy may disconnect at any time.
                    http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        });
        Ok(Self {
            address,
            seen,
            task,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the acknowledgement of `revision`.
    pub(crate) async fn ack(&self, revision: u64) -> Result<Ack> {
        eventually(&format!("an ack of {revision}"), PATIENCE, async || {
            let acks = self.seen.acks.lock();
            acks.iter().find(|ack| ack.revision == revision).cloned()
        })
        .await
    }

    /// The number of reports; each was answered as by an operator that does not know reports.
    pub(crate) fn reports(&self) -> usize {
        self.seen.reports.load(Ordering::Relaxed)
    }

    /// Waits for the n-th subscription, and returns its query.
    pub(crate) async fn subscription(&self, n: usize) -> Result<String> {
        eventually(&format!("subscription {n}"), PATIENCE, async || {
            self.seen.subscriptions.lock().get(n).cloned()
        })
        .await
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(seen: &Seen, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/v1/ack" {
        let body = request.into_body().collect().await;
        let body = body.expect("a whole body").to_bytes();
        let ack = serde_json::from_slice(&body).expect("an acknowledgement");
        seen.acks.lock().push(ack);
        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return response;
    }
    if request.uri().path() == "/v1/report" {
        seen.reports.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let n = {
        let mut subscriptions = seen.subscriptions.lock();
        subscriptions.push(query);
        subscriptions.len() - 1
    };
    let lines = seen.script.get(n).or_else(|| seen.script.last());
    let lines = lines.cloned().unwrap_or_default();
    let frames = stream::iter(lines).map(|line| Ok(Frame::data(line)));
    // Longer than the test; then the stream ends.
    let open = stream::once(tokio::time::sleep(Duration::from_secs(600)));
    let open = open.map(|()| Ok(Frame::data(Bytes::new())));
    Response::new(StreamBody::new(frames.chain(open)).boxed_unsync())
}
