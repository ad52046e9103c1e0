use std::convert::Infallible;

use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use proxy_admin::task;
use tokio::io::duplex;
use tokio::time::Instant;

use super::*;
use crate::config::{Config, Operator};
use crate::metrics::Metrics;

/// Runs a session with a peer that sends `lines`, pausing before each, then stays silent. Returns the
/// session's end and its duration.
async fn check(lines: &'static [&'static str], pause: Duration) -> (ChannelError, Duration) {
    check_with(None, lines, pause).await
}

/// The same with a peer that says the pause between its heartbeats.
async fn check_with(
    says: Option<&'static str>,
    lines: &'static [&'static str],
    pause: Duration,
) -> (ChannelError, Duration) {
    let (ours, theirs) = duplex(64 * 1024);
    task::spawn("peer", async move {
        let service = service_fn(move |_request: Request<Incoming>| async move {
            let lines: Vec<Bytes> = lines
                .iter()
                .map(|line| Bytes::from_static(line.as_bytes()))
                .collect();
            let lines = stream::iter(lines).then(move |line: Bytes| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, Infallible>(Frame::data(line))
            });
            let silence = stream::pending();
            let mut answer = Response::new(StreamBody::new(lines.chain(silence)));
            if let Some(seconds) = says {
                let value = seconds.parse().expect("it is a header value");
                answer.headers_mut().insert("x-tundish-heartbeat", value);
            }
            Ok::<_, Infallible>(answer)
        });
        // Ends when the session disconnects.
        http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(theirs), service)
            .await
            .ok();
    });
    let config = Arc::new(Config {
        operators: Vec::new(),
        ca_file: None,
        token_file: None,
        replica: "p1".to_owned(),
        last_good: None,
        snapshot: None,
        keep_credentials: false,
        allow_plaintext: true,
        max_table_age: None,
    });
    let operator = Operator {
        host: "operator".to_owned(),
        port: 80,
        tls: false,
    };
    let mut connection = Connection::over(&config, &operator, ours).await.unwrap();
    let (body, heartbeat) = connection.subscribe("1", None).await.unwrap();
    let metrics = Metrics::register(&mut Registry::default());
    let current = Current::new(Box::new(|_update| {}), metrics);
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let mut session = Session::new(&current, address, "p1", None);
    let start = Instant::now();
    let ended = session.run(&connection, body, heartbeat).await.unwrap_err();
    (ended, start.elapsed())
}

const BEAT: &str = "{\"type\":\"heartbeat\",\"revision\":1,\"digest\":\"d\",\"replicas\":1}\n";

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_disconnected() {
    let (ended, after) = check(&[], Duration::ZERO).await;
    assert!(matches!(ended, ChannelError::TooSlow(_)), "{ended}");
    assert_eq!(after.as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn the_silence_allowed_follows_the_heartbeats_of_the_operator() {
    let (_ended, after) = check_with(Some("60"), &[BEAT], Duration::from_secs(60)).await;
    assert_eq!(after.as_secs(), 60 + 180);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_session_open() {
    let (_ended, after) = check(&[BEAT, BEAT, BEAT, BEAT], Duration::from_secs(10)).await;
    assert_eq!(after.as_secs(), 4 * 10 + 15);
}

#[tokio::test(start_paused = true)]
async fn a_delta_without_a_table_ends_the_session_at_once() {
    const DELTA: &str =
        "{\"type\":\"delta\",\"base\":\"b\",\"revision\":1,\"digest\":\"d\",\"replicas\":1}\n";
    let (ended, after) = check(&[DELTA], Duration::ZERO).await;
    assert!(matches!(ended, ChannelError::OutOfStep(_)), "{ended}");
    assert!(after.as_secs() < 1);
}
