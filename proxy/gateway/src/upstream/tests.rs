use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::host::{Host, Looking};
use proxy_api::{Answer, Pieces, ROWS};
use proxy_core::reach::Reach;
use proxy_core::table::Backend;
use proxy_core::test_util;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Connections, Failed, Failure, Patience};
use crate::origin::{Origin, Outgoing};
use crate::peer::{Peer, PeerName};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server, its origin, and the connections of one core.
struct Scene {
    listener: TcpListener,
    origin: Origin,
    connections: Connections,
}

impl Scene {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self::at(listener, &format!("http://{address}"), Peer::new)
    }

    /// Where this says that a name is.
    async fn named(lookup: impl Fn(&str) -> Looking + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let host = Host::with_lookup("a.example", Arc::new(lookup));
        let url = format!("http://a.example:{port}");
        Self::at(listener, &url, |name| Peer::at(host.clone(), name))
    }

    fn at(listener: TcpListener, url: &str, peer: impl Fn(PeerName) -> Peer) -> Self {
        let backend = Backend {
            endpoint: url.into(),
            connect_timeout: Duration::from_secs(2),
            ..test_util::backend("b")
        };
        let origin = Origin::of(&backend, ROWS, None, |name| Arc::new(peer(name)));
        Self {
            listener,
            origin: origin.expect("a good backend"),
            connections: Connections::new(Arc::new(Reach::everywhere())),
        }
    }

    async fn accept(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("it connects").expect("it is open").0
    }

    /// Sends a request, and reads the answer.
    async fn send(&self) -> Result<Bytes, Failed> {
        let Answer::Backend(call) = &ROWS[0].answer else {
            panic!("the first row is chat")
        };
        let client = HeaderMap::new();
        let outgoing = Outgoing {
            method: &Method::POST,
            destination: self
                .origin
                .destination(call, "d", None, None)
                .expect("a path"),
            client: &client,
            shown: None,
            bearer: None,
            request_id: &HeaderValue::from_static("id"),
            length: 2,
            body: &|| Some(Pieces::from(Bytes::from_static(b"{}")).into()),
            goes_once: false,
        };
        let now = clock::instant();
        let patience = Patience {
            now,
            answer: PATIENCE,
            until: now + PATIENCE,
        };
        let fate = Mutex::default();
        let sent = self
            .connections
            .send(&self.origin, &outgoing, patience, &fate);
        let body = sent.await?.into_body().collect().await;
        Ok(body.expect("a whole answer").to_bytes())
    }

    /// Sends a request on a new connection, and answers it.
    async fn connect(&self) -> TcpStream {
        let serve = async {
            let mut stream = self.accept().await;
            answer(&mut stream).await;
            stream
        };
        let (sent, stream) = tokio::join!(self.send(), serve);
        assert_eq!(sent.expect("an answer"), "{}");
        stream
    }

    fn kept(&self) -> usize {
        let pools = self.connections.pools.lock();
        pools.values().map(|(_, pool)| pool.kept()).sum()
    }
}

/// Reads a request and answers it.
async fn answer(stream: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        assert!(stream.read_buf(&mut request).await.expect("a request") > 0);
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(answer).await.expect("it is open");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_while() {
    let scene = Scene::new().await;
    let serve = async {
        let mut stream = scene.accept().await;
        answer(&mut stream).await;
        stream
    };
    let (sent, mut stream) = tokio::join!(scene.send(), serve);
    assert_eq!(sent.expect("an answer"), "{}");
    let first = clock::instant();
    let after = |seconds| {
        scene
            .connections
            .prune(first + Duration::from_secs(seconds));
        scene.kept()
    };
    assert_eq!((after(0), after(54)), (1, 1));
    // In use, it is not idle.
    let (sent, ()) = tokio::join!(scene.send(), answer(&mut stream));
    assert_eq!(sent.expect("an answer"), "{}");
    assert_eq!((after(100), after(154), after(155)), (1, 1, 0));
    assert_eq!(stream.read(&mut [0]).await.expect("closed, not reset"), 0);
}

#[tokio::test]
async fn a_connection_that_its_peer_closed_is_not_kept() {
    let scene = Scene::new().await;
    let serve = async {
        answer(&mut scene.accept().await).await;
    };
    let (sent, ()) = tokio::join!(scene.send(), serve);
    assert_eq!(sent.expect("an answer"), "{}");
    let closed = async || {
        let now = clock::instant();
        while scene.kept() > 0 {
            // The runtime looks at the socket.
            tokio::task::yield_now().await;
            scene.connections.prune(now);
        }
    };
    tokio::time::timeout(PATIENCE, closed())
        .await
        .expect("it is found");
}

#[tokio::test]
async fn connections_go_with_their_peer() {
    let scene = Scene::new().await;
    let serve = async {
        let mut stream = scene.accept().await;
        answer(&mut stream).await;
        stream
    };
    let (sent, _stream) = tokio::join!(scene.send(), serve);
    assert_eq!(sent.expect("an answer"), "{}");
    let now = clock::instant();
    let Scene {
        origin,
        connections,
        ..
    } = scene;
    connections.prune(now);
    assert_eq!(connections.pools.lock().len(), 1);
    drop(origin);
    connections.prune(now);
    assert_eq!(connections.pools.lock().len(), 0);
}

/// Reads a request up to its end, and closes the connection instead of an answer.
async fn close_under_request(mut stream: TcpStream, after: Duration, early: &[u8]) {
    assert!(stream.read(&mut [0; 1_000]).await.expect("a request") > 0);
    stream.write_all(early).await.expect("it is open");
    tokio::time::sleep(after).await;
}

#[tokio::test]
async fn a_request_goes_once_more_if_its_kept_connection_ends_under_it() {
    let scene = Scene::new().await;
    let serve = async {
        let mut first = scene.accept().await;
        answer(&mut first).await;
        close_under_request(first, Duration::ZERO, b"").await;
        answer(&mut scene.accept().await).await;
    };
    let ask = async {
        for _ in 0..2 {
            assert_eq!(scene.send().await.expect("an answer"), "{}");
        }
    };
    tokio::join!(ask, serve);
}

#[tokio::test]
async fn a_request_that_was_taken_is_not_sent_again() {
    for (after, early, is_kept) in [
        // The server may have worked on it.
        (Duration::from_secs(3), &b""[..], true),
        (Duration::ZERO, b"HTTP/1.1 100 Continue\r\n\r\n", true),
        (Duration::ZERO, b"", false),
    ] {
        let scene = Scene::new().await;
        let serve = async {
            let mut stream = scene.accept().await;
            if is_kept {
                answer(&mut stream).await;
            }
            close_under_request(stream, after, early).await;
        };
        let ask = async {
            if is_kept {
                assert_eq!(scene.send().await.expect("an answer"), "{}");
            }
            scene.send().await.map(|_| ()).expect_err("it breaks off")
        };
        let (failed, ()) = tokio::join!(ask, serve);
        assert_eq!(failed.how, Failure::BrokeOff, "{}", failed.cause);
    }
}

#[tokio::test]
async fn after_one_stale_connection_a_new_one_is_used() {
    const KEPT: usize = 10;
    let scene = Scene::new().await;
    let serve = async {
        let mut kept = Vec::new();
        for _ in 0..KEPT {
            kept.push(scene.accept().await);
        }
        for stream in &mut kept {
            answer(stream).await;
        }
        kept
    };
    let asked = (0..KEPT).map(|_| scene.send());
    let (answers, kept) = tokio::join!(futures::future::join_all(asked), serve);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(scene.kept(), KEPT);
    let serve = async {
        // Each would fail in the same way.
        let mut kept = kept.into_iter();
        let last = kept.next_back().expect("they are kept");
        drop(kept);
        close_under_request(last, Duration::ZERO, b"").await;
        answer(&mut scene.accept().await).await;
    };
    let (sent, ()) = tokio::join!(scene.send(), serve);
    assert_eq!(sent.expect("an answer"), "{}");
    assert_eq!(scene.kept(), 1);
}

#[tokio::test]
async fn without_a_listener_nothing_is_sent() {
    let mut scene = Scene::new().await;
    let address = scene.listener.local_addr().expect("an address");
    // Nothing listens on the old port any more.
    scene.listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    assert_ne!(scene.listener.local_addr().expect("an address"), address);
    let failed = scene.send().await.map(|_| ()).expect_err("refused");
    assert_eq!(failed.how, Failure::Unreachable, "{}", failed.cause);
}

/// A lookup that has ended.
fn found(address: [u8; 4]) -> Looking {
    Box::pin(std::future::ready(Ok(vec![IpAddr::from(address)])))
}

#[tokio::test]
async fn calls_follow_a_name_that_has_another_address() {
    let address = Arc::new(Mutex::new([127, 0, 0, 1]));
    let now_at = Arc::clone(&address);
    let mut scene = Scene::named(move |_name| found(*now_at.lock())).await;
    let port = scene.listener.local_addr().expect("an address").port();
    let _old = scene.connect().await;
    *address.lock() = [127, 0, 0, 2];
    let elsewhere = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await;
    let before = std::mem::replace(&mut scene.listener, elsewhere.expect("the same port"));
    let pool = scene.connections.pool(&scene.origin.peer).expect("a pool");
    let start = clock::instant();
    let followed = async || {
        for second in 0..30 {
            scene.connections.prune(start + Duration::from_secs(second));
            // The lookup ends.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            // Under load it is idle for no second.
            match pool.take(start) {
                Some(connection) => pool.put(connection),
                None => return Some(second),
            }
        }
        None
    };
    let second = followed().await.expect("half a minute is enough");
    assert!(
        second > 10,
        "one answer without the address may be a round robin"
    );
    drop(before);
    let new = scene.connect().await;
    assert_eq!(
        new.local_addr().expect("an address").ip(),
        Ipv4Addr::new(127, 0, 0, 2)
    );
}

#[tokio::test]
async fn a_lookup_that_hangs_ends_with_the_time_to_connect() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lookups);
    let scene = Scene::named(move |_name| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    })
    .await;
    let began = clock::instant();
    let asked = (0..100).map(|_| scene.send());
    for failed in futures::future::join_all(asked).await {
        let failed = failed.map(|_| ()).expect_err("it hangs");
        assert_eq!(failed.how, Failure::Unreachable, "{}", failed.cause);
    }
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert_eq!(lookups.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_that_is_not_found_fails_at_once() {
    let scene = Scene::named(|_name| {
        let failed = Err(std::io::Error::other("NXDOMAIN"));
        Box::pin(std::future::ready(failed))
    })
    .await;
    let failed = scene.send().await.map(|_| ()).expect_err("no name");
    assert_eq!(failed.how, Failure::Unreachable);
    assert_eq!(failed.cause, "look up the name: NXDOMAIN");
}

#[tokio::test]
async fn a_lookup_without_a_descriptor_is_no_fault_of_the_backend() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lookups);
    let scene = Scene::named(move |_name| {
        count.fetch_add(1, Ordering::SeqCst);
        // EMFILE.
        let failed = Err(std::io::Error::from_raw_os_error(24));
        Box::pin(std::future::ready(failed))
    })
    .await;
    let failed = scene.send().await.map(|_| ()).expect_err("no descriptor");
    assert_eq!(failed.how, Failure::Local, "{}", failed.cause);
}

#[tokio::test]
async fn of_many_connections_the_newest_are_kept() {
    let scene = Scene::new().await;
    let mut streams = Vec::new();
    let asked = (0..300).map(|_| scene.send());
    let serve = async {
        for _ in 0..300 {
            streams.push(scene.accept().await);
        }
        for stream in &mut streams {
            answer(stream).await;
        }
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(asked), serve);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(scene.kept(), 256);
}

#[tokio::test]
async fn an_old_connection_is_not_used_again() {
    let scene = Scene::new().await;
    let mut stream = scene.connect().await;
    let pool = scene.connections.pool(&scene.origin.peer).expect("a pool");
    let age = |minutes: u64| clock::instant() + Duration::from_secs(minutes * 60);
    let young = pool.take(age(9)).expect("it is young");
    pool.put(young);
    // Idle or busy, and whatever its jitter is.
    assert!(pool.take(age(12)).is_none());
    assert_eq!(stream.read(&mut [0]).await.expect("closed, not reset"), 0);
}
