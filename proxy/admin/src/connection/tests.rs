use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::shutdown;

/// A wait that no test reaches unless it fails.
const LONGEST: Duration = Duration::from_secs(5);

/// Both ends of a connection on loopback: the client's and the server's.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let client = client.unwrap();
    client.set_nodelay(true).unwrap();
    (client, accepted.unwrap().0)
}

/// What is detected when a client sends these pieces one after the other.
async fn detected(pieces: &[&[u8]]) -> Result<Protocol, ConnectionError> {
    let (mut client, server) = connected().await;
    let sending = async {
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            sleep(PEEK_AGAIN * 3).await;
        }
        client
    };
    let (detected, _open) = tokio::join!(Protocol::detect(&server, LONGEST), sending);
    detected
}

#[tokio::test]
async fn a_preface_in_one_piece_or_in_several_is_http2() {
    for pieces in [
        &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice()][..],
        &[b"P", b"RI * HT", b"TP/2.0"],
    ] {
        assert_eq!(detected(pieces).await.unwrap(), Protocol::Http2);
    }
}

#[tokio::test]
async fn everything_else_is_http1() {
    for pieces in [
        &[b"GET / HTTP/1.1\r\n".as_slice()][..],
        &[b"PRI", b"NT / HTTP/1.1"],
        &[b"P", b"UT / HTTP/1.1"],
        &[&[0x16, 3, 1]],
    ] {
        assert_eq!(detected(pieces).await.unwrap(), Protocol::Http1);
    }
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_closes_has_no_protocol() {
    let (client, server) = connected().await;
    let silent = Protocol::detect(&server, Duration::from_millis(20)).await;
    assert!(matches!(silent, Err(ConnectionError::Silent)), "{silent:?}");
    drop(client);
    let closed = Protocol::detect(&server, LONGEST).await;
    assert!(
        matches!(closed, Err(ConnectionError::Greeting(_))),
        "{closed:?}"
    );
}

#[tokio::test]
async fn only_h2_by_alpn_is_http2() {
    assert_eq!(Protocol::negotiated(Some(b"h2")), Protocol::Http2);
    assert_eq!(Protocol::negotiated(Some(b"http/1.1")), Protocol::Http1);
    assert_eq!(Protocol::negotiated(None), Protocol::Http1);
}

/// A connection whose requests are answered when the test says so.
struct Served {
    client: DuplexStream,
    /// Receives a word when a request has come.
    requests: mpsc::Receiver<()>,
    /// Answers one request.
    answers: mpsc::Sender<()>,
    stop: shutdown::Trigger,
    ended: mpsc::Receiver<Result<(), ConnectionError>>,
}

fn served(close: Option<Duration>) -> Served {
    let (client, server) = duplex(64 * 1024);
    let (requested, requests) = mpsc::channel(8);
    let (answers, answered) = mpsc::channel::<()>(8);
    let (done, ended) = mpsc::channel(1);
    let (stop, shutdown) = shutdown::channel();
    let mut http1 = http1::Builder::new();
    http1.timer(TokioTimer::new());
    let limits = Limits {
        http1,
        http2: http2::Builder::new(TokioExecutor::new()),
        close,
    };
    let answered = std::sync::Arc::new(tokio::sync::Mutex::new(answered));
    crate::task::spawn("connection under test", async move {
        let answer = move |_request| {
            let (requested, answered) = (requested.clone(), answered.clone());
            async move {
                requested.send(()).await.unwrap();
                answered.lock().await.recv().await;
                Response::new(Full::new(Bytes::from("served")))
            }
        };
        let ended = serve(server, Protocol::Http1, &limits, answer, shutdown).await;
        done.send(ended).await.ok();
    });
    Served {
        client,
        requests,
        answers,
        stop,
        ended,
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_shutdown_finishes_the_request_under_way_and_closes() {
    let mut served = served(None);
    served.client.write_all(REQUEST).await.unwrap();
    served.requests.recv().await.unwrap();
    served.stop.stop();
    served.answers.send(()).await.unwrap();
    let mut response = String::new();
    served.client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.ends_with("served"), "{response}");
    assert!(served.ended.recv().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_response_that_outlasts_the_limit_is_cut() {
    let mut served = served(Some(Duration::from_secs(5)));
    served.client.write_all(REQUEST).await.unwrap();
    served.requests.recv().await.unwrap();
    served.stop.stop();
    let ended = served.ended.recv().await.unwrap();
    assert!(matches!(ended, Err(ConnectionError::Unclosed)), "{ended:?}");
}

#[tokio::test]
async fn an_idle_connection_closes_at_a_shutdown() {
    let mut served = served(None);
    served.stop.stop();
    assert!(served.ended.recv().await.unwrap().is_ok());
}
