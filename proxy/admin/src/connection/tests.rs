use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::shutdown;

/// A wait that no test reaches unless it fails.
const LONGEST: Duration = Duration::from_secs(5);

/// The wait for a head.
const HEAD: Duration = Duration::from_secs(60);

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

fn limits() -> Limits {
    Limits {
        http1: http1::Builder::new(),
        http2: |_builder| (),
        faults: Faults::default(),
        lingers: Lingers::default(),
        strained: Arc::default(),
        head: HEAD,
        close: None,
    }
}

fn served(close: Option<Duration>) -> Served {
    let (client, server) = duplex(64 * 1024);
    let (requested, requests) = mpsc::channel(8);
    let (answers, answered) = mpsc::channel::<()>(8);
    let (done, ended) = mpsc::channel(1);
    let (stop, shutdown) = shutdown::channel();
    let limits = Limits { close, ..limits() };
    let answered = Arc::new(tokio::sync::Mutex::new(answered));
    crate::task::spawn("connection under test", async move {
        let answer = move |_request, _leash| {
            let (requested, answered) = (requested.clone(), answered.clone());
            async move {
                requested.send(()).await.unwrap();
                answered.lock().await.recv().await;
                Response::new(Full::new(Bytes::from("served")))
            }
        };
        let refuse = |status: StatusCode| {
            let answer = format!("HTTP/1.1 {} no\r\n\r\nour own words", status.as_str());
            Some(Bytes::from(answer))
        };
        let client = Accepted::unbudgeted(server);
        let ended = serve(client, Protocol::Http1, &limits, answer, refuse, shutdown).await;
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
async fn a_leaving_server_serves_on_and_closes_with_its_next_answer() {
    // At once, within a pause, and while a request runs.
    for pause in [Some(Duration::ZERO), Some(PAUSE), None] {
        let mut served = served(None);
        if let Some(pause) = pause {
            served.client.write_all(REQUEST).await.unwrap();
            served.exchange().await;
            sleep(pause).await;
            served.stop.leave();
            sleep(PAUSE).await;
        }
        served.client.write_all(REQUEST).await.unwrap();
        served.requests.recv().await.unwrap();
        served.stop.leave();
        served.answers.send(()).await.unwrap();
        let mut response = String::new();
        served.client.read_to_string(&mut response).await.unwrap();
        assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
        assert!(response.ends_with("served"), "{response}");
    }
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

/// Longer than it takes to see that a connection is idle.
const PAUSE: Duration = Duration::from_secs(3);

impl Served {
    async fn exchange(&mut self) {
        self.requests.recv().await.unwrap();
        self.answers.send(()).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"served") {
            assert_ne!(self.client.read_buf(&mut response).await.unwrap(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_served_before_and_after_a_pause() {
    let mut served = served(None);
    for _ in 0..3 {
        served.client.write_all(REQUEST).await.unwrap();
        served.exchange().await;
        sleep(PAUSE).await;
    }
    // The head comes in two parts, with a pause of its own.
    let (begin, end) = REQUEST.split_at(7);
    served.client.write_all(begin).await.unwrap();
    sleep(PAUSE).await;
    served.client.write_all(end).await.unwrap();
    served.exchange().await;
    // Two requests in one piece after a pause.
    sleep(PAUSE).await;
    served.client.write_all(&REQUEST.repeat(2)).await.unwrap();
    served.exchange().await;
    served.exchange().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_request_is_disconnected_in_time() {
    for begun in [b"".as_slice(), b"GET / HT"] {
        let mut served = served(None);
        served.client.write_all(REQUEST).await.unwrap();
        served.exchange().await;
        let started = tokio::time::Instant::now();
        served.client.write_all(begun).await.unwrap();
        let ended = served.ended.recv().await.unwrap();
        assert!(matches!(ended, Err(ConnectionError::Silent)), "{ended:?}");
        let late = started.elapsed().saturating_sub(HEAD);
        assert!(late < PAUSE, "{late:?} too late");
        assert!(started.elapsed() >= HEAD - PAUSE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_response_is_no_pause() {
    let mut served = served(None);
    served.client.write_all(REQUEST).await.unwrap();
    sleep(HEAD * 3).await;
    served.exchange().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_or_the_client_ends_a_pause() {
    for stops in [true, false] {
        let mut served = served(None);
        served.client.write_all(REQUEST).await.unwrap();
        served.exchange().await;
        sleep(PAUSE).await;
        if stops {
            served.stop.stop();
        } else {
            served.client.shutdown().await.unwrap();
        }
        assert!(served.ended.recv().await.unwrap().is_ok());
        assert_eq!(served.client.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn heads_that_hyper_cannot_read_are_answered_by_the_owner() {
    for (bytes, status) in [
        ("GARBAGE\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nhost : x\r\n\r\n".to_owned(), "400"),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(120)),
            "431",
        ),
    ] {
        let mut served = served(None);
        served.client.write_all(bytes.as_bytes()).await.unwrap();
        served.client.shutdown().await.unwrap();
        let mut response = String::new();
        served.client.read_to_string(&mut response).await.unwrap();
        assert_eq!(
            response,
            format!("HTTP/1.1 {status} no\r\n\r\nour own words")
        );
        assert!(served.ended.recv().await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_still_sends_gets_its_answer_and_no_reset() {
    let mut served = served(None);
    let head =
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n";
    served.client.write_all(head).await.unwrap();
    served.requests.recv().await.unwrap();
    served.answers.send(()).await.unwrap();
    for _ in 0..10 {
        served
            .client
            .write_all(&[b'a'; 100_000])
            .await
            .expect("it is read on");
        sleep(LONGEST / 10).await;
    }
    let mut response = String::new();
    served.client.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("served"), "{response}");
    assert!(
        served.ended.recv().await.unwrap().is_ok(),
        "silence ends it"
    );
}

/// A body of pieces of 16 KB without an end, which counts them.
struct Pieces(Arc<std::sync::atomic::AtomicUsize>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let piece = Bytes::from_static(&[b'x'; 16 << 10]);
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(piece))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_leaves_little_of_its_answer_in_memory_and_ends_in_time() {
    let (mut client, server) = duplex(1 << 10);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (done, mut ended) = mpsc::channel(1);
    let (_stop, shutdown) = shutdown::channel();
    crate::task::spawn("connection under test", async move {
        let mut http1 = http1::Builder::new();
        http1.max_buf_size(512 << 10);
        let limits = Limits {
            http1,
            http2: |_builder| (),
            faults: Faults::default(),
            lingers: Lingers::default(),
            strained: Arc::default(),
            head: HEAD,
            close: None,
        };
        let answer = move |_request, leash: Arc<Leash>| {
            let body = Pieces(Arc::clone(&count));
            async move {
                leash.end_at((tokio::time::Instant::now() + LONGEST).into_std());
                Response::new(body)
            }
        };
        let client = Accepted::unbudgeted(server);
        let ended = serve(client, Protocol::Http1, &limits, answer, |_| None, shutdown).await;
        done.send(ended).await.ok();
    });
    let began = tokio::time::Instant::now();
    client.write_all(REQUEST).await.unwrap();
    sleep(PAUSE).await;
    let pieces = asked.load(std::sync::atomic::Ordering::SeqCst);
    assert!((4..=6).contains(&pieces), "{pieces} pieces of 16 KB");
    // Each byte is progress, and the end comes all the same.
    let read = async {
        while client.read_u8().await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::select! {
        ended = ended.recv() => ended.unwrap(),
        () = read => panic!("it ends by itself"),
    };
    assert!(matches!(ended, Err(ConnectionError::Overdue)), "{ended:?}");
    assert!(began.elapsed() < LONGEST + PAUSE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_large_body_is_read_to_its_end_also_after_a_shutdown() {
    const SIZE: usize = 8 << 20;
    let (client, server) = duplex(256 << 10);
    let (begun, mut begins) = mpsc::channel(1);
    let (stop, shutdown) = shutdown::channel();
    crate::task::spawn("connection under test", async move {
        let limits = Limits {
            http1: http1::Builder::new(),
            http2: |_builder| (),
            faults: Faults::default(),
            lingers: Lingers::default(),
            strained: Arc::default(),
            head: HEAD,
            close: None,
        };
        let answer = move |request: Request<Incoming>, _leash| {
            let begun = begun.clone();
            async move {
                begun.send(()).await.unwrap();
                let body = http_body_util::BodyExt::collect(request.into_body()).await;
                let size = body.unwrap().to_bytes().len();
                Response::new(Full::new(Bytes::from(format!("{size} bytes"))))
            }
        };
        let client = Accepted::unbudgeted(server);
        let served = serve(client, Protocol::Http1, &limits, answer, |_| None, shutdown);
        served.await.unwrap();
    });
    let (mut read, mut write) = tokio::io::split(client);
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {SIZE}\r\n\r\n");
    write.write_all(head.as_bytes()).await.unwrap();
    begins.recv().await.unwrap();
    stop.stop();
    let sent = async { write.write_all(&vec![b'a'; SIZE]).await.unwrap() };
    let mut answer = String::new();
    let (_, read) = tokio::join!(sent, read.read_to_string(&mut answer));
    read.unwrap();
    assert!(
        answer.ends_with(&format!("\r\n\r\n{SIZE} bytes")),
        "{answer}"
    );
}

#[tokio::test]
async fn under_strain_a_request_is_not_begun_whose_client_sends_no_more() {
    for strained in [false, true] {
        let (mut client, server) = connected().await;
        client.write_all(REQUEST).await.unwrap();
        client.shutdown().await.unwrap();
        let mut limits = limits();
        limits.strained = Arc::new(AtomicBool::new(strained));
        let client_of_server = Accepted {
            stream: server,
            socket: |stream| Some(stream),
            peer: None,
            room: None,
        };
        let (_stop, shutdown) = shutdown::channel();
        let answer = |_request, leash: Arc<Leash>| {
            leash.received();
            async { Response::new(Full::new(Bytes::from("served"))) }
        };
        let refuse = |_status| None;
        let served = serve(
            client_of_server,
            Protocol::Http1,
            &limits,
            answer,
            refuse,
            shutdown,
        );
        // hyper takes both for the end of a connection between two requests.
        served.await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.ok();
        assert_eq!(response.ends_with("served"), !strained, "{response}");
    }
}
