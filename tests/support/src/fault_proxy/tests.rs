use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;
use crate::eventually;

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

/// A server that answers each `?` with `0123456789`, and everything else with nothing; and its proxy.
struct Scene {
    proxy: FaultProxy,
    /// What it has read.
    read: Arc<AtomicU64>,
    _server: JoinSet<()>,
}

impl Scene {
    async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let read = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&read);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&counter)));
            }
        });
        Self {
            proxy: FaultProxy::start(port).unwrap(),
            read,
            _server: server,
        }
    }

    async fn connect(&self) -> TcpStream {
        let port = self.proxy.port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap()
    }
}

async fn answer(mut stream: TcpStream, counter: Arc<AtomicU64>) {
    let mut piece = vec![0; 65_536];
    while let Ok(size @ 1..) = stream.read(&mut piece).await {
        counter.fetch_add(u64::try_from(size).unwrap(), Ordering::Relaxed);
        if piece[..size].contains(&b'?') && stream.write_all(b"0123456789").await.is_err() {
            return;
        }
    }
}

/// Asks, and reads at most one answer: how much came, and how it ended if it did.
async fn ask(stream: &mut TcpStream) -> (usize, Option<ErrorKind>) {
    if let Err(error) = stream.write_all(b"?").await {
        return (0, Some(error.kind()));
    }
    rest(stream).await
}

async fn rest(stream: &mut TcpStream) -> (usize, Option<ErrorKind>) {
    let mut came = 0;
    let reading = async {
        while came < 10 {
            match stream.read(&mut [0; 10]).await {
                Ok(0) => return Some(ErrorKind::UnexpectedEof),
                Ok(size) => came += size,
                Err(error) => return Some(error.kind()),
            }
        }
        None
    };
    let ended = tokio::time::timeout(SHORT, reading).await;
    let ended = ended.unwrap_or(Some(ErrorKind::TimedOut));
    (came, ended)
}

#[tokio::test]
async fn without_a_fault_bytes_pass_and_connections_are_counted() {
    let scene = Scene::new().await;
    let mut first = scene.connect().await;
    let mut second = scene.connect().await;
    for stream in [&mut first, &mut second] {
        assert_eq!(ask(stream).await, (10, None));
        assert_eq!(ask(stream).await, (10, None));
    }
    assert_eq!((scene.proxy.accepted(), scene.proxy.open()), (2, 2));
    drop(first);
    eventually("one end", PATIENCE, async || {
        (scene.proxy.open() == 1).then_some(())
    })
    .await
    .unwrap();
    scene.proxy.cut();
    let (_, ended) = rest(&mut second).await;
    assert_eq!(ended, Some(ErrorKind::ConnectionReset));
    assert_eq!(scene.proxy.accepted(), 2);
}

#[tokio::test]
async fn latency_delays_each_way() {
    let scene = Scene::new().await;
    let mut stream = scene.connect().await;
    let delay = Duration::from_millis(50);
    let jitter = Duration::from_millis(20);
    scene.proxy.set(Fault::Latency { delay, jitter });
    let began = Instant::now();
    assert_eq!(ask(&mut stream).await, (10, None));
    assert!(began.elapsed() >= 2 * delay, "{:?}", began.elapsed());
}

#[tokio::test]
async fn new_connections_are_refused_closed_or_reset_and_open_ones_go_on() {
    let scene = Scene::new().await;
    let mut kept = scene.connect().await;
    assert_eq!(ask(&mut kept).await, (10, None));
    for (fault, ends) in [
        (Fault::CloseOnAccept, ErrorKind::UnexpectedEof),
        (Fault::ResetOnAccept, ErrorKind::ConnectionReset),
    ] {
        scene.proxy.set(fault);
        let mut new = scene.connect().await;
        let (came, ended) = rest(&mut new).await;
        assert_eq!((came, ended), (0, Some(ends)), "{fault:?}");
    }
    let accepted = scene.proxy.accepted();
    scene.proxy.set(Fault::Refuse);
    let port = scene.proxy.port();
    eventually("a refusal", PATIENCE, async || {
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        connected
            .err()
            .filter(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await
    .unwrap();
    assert_eq!(ask(&mut kept).await, (10, None));
    assert!(scene.proxy.accepted() <= accepted + 1);
    scene.proxy.set(Fault::Pass);
    eventually("a listener", PATIENCE, async || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_answer_is_reset_where_the_test_says() {
    let scene = Scene::new().await;
    for most in [0, 4] {
        scene.proxy.set(Fault::ResetAfter(most));
        let mut stream = scene.connect().await;
        let before = scene.read.load(Ordering::Relaxed);
        let (came, ended) = ask(&mut stream).await;
        // A reset may overtake what was sent before it.
        assert!(came <= most, "{came}");
        assert_eq!(ended, Some(ErrorKind::ConnectionReset));
        assert_eq!(scene.read.load(Ordering::Relaxed), before + 1);
    }
    scene.proxy.set(Fault::ResetAfter(10));
    let mut stream = scene.connect().await;
    assert_eq!(ask(&mut stream).await, (10, None));
    assert_eq!(ask(&mut stream).await, (10, None));
}

#[tokio::test]
async fn what_is_swallowed_stays_swallowed_on_that_connection() {
    let scene = Scene::new().await;
    for (fault, reads) in [(Fault::BlackHole, 0), (Fault::HalfOpen, 1)] {
        let mut stream = scene.connect().await;
        assert_eq!(ask(&mut stream).await, (10, None));
        let before = scene.read.load(Ordering::Relaxed);
        scene.proxy.set(fault);
        assert_eq!(ask(&mut stream).await, (0, Some(ErrorKind::TimedOut)));
        assert_eq!(scene.read.load(Ordering::Relaxed), before + reads);
        scene.proxy.set(Fault::Pass);
        assert_eq!(ask(&mut stream).await, (0, Some(ErrorKind::TimedOut)));
        assert_eq!(ask(&mut scene.connect().await).await, (10, None));
    }
}

#[tokio::test]
async fn an_answer_falls_silent_where_the_test_says() {
    let scene = Scene::new().await;
    scene.proxy.set(Fault::SilentAfter(4));
    let mut stream = scene.connect().await;
    assert_eq!(ask(&mut stream).await, (4, Some(ErrorKind::TimedOut)));
    assert_eq!(ask(&mut stream).await, (0, Some(ErrorKind::TimedOut)));
    scene.proxy.set(Fault::SilentAfter(10));
    let mut stream = scene.connect().await;
    assert_eq!(ask(&mut stream).await, (10, None));
    assert_eq!(ask(&mut stream).await, (10, None));
}

#[tokio::test]
async fn first_packets_are_dropped_and_open_connections_go_on() {
    let scene = Scene::new().await;
    let mut kept = scene.connect().await;
    // Only what the proxy has accepted is open: the rest goes with its listener.
    assert_eq!(ask(&mut kept).await, (10, None));
    scene.proxy.set(Fault::Unanswered);
    let port = scene.proxy.port();
    let connect = async || {
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        tokio::time::timeout(SHORT, connecting).await
    };
    // Until the backlog is full.
    eventually("a wait", PATIENCE, async || connect().await.err())
        .await
        .unwrap();
    assert!(connect().await.is_err(), "it is answered again");
    assert_eq!(ask(&mut kept).await, (10, None));
    scene.proxy.set(Fault::Pass);
    let mut new = eventually("a listener", PATIENCE, async || {
        connect().await.ok().and_then(Result::ok)
    })
    .await
    .unwrap();
    assert_eq!(ask(&mut new).await, (10, None));
}

#[tokio::test]
async fn a_slow_reader_stops_its_client() {
    let scene = Scene::new().await;
    scene.proxy.set(Fault::SlowRead(20_000));
    let mut stream = scene.connect().await;
    let body = vec![b'.'; 16 << 20];
    let sent = tokio::time::timeout(SHORT, stream.write_all(&body)).await;
    assert!(sent.is_err(), "it takes all at once");
    assert!(scene.read.load(Ordering::Relaxed) <= 20_000);
}

#[tokio::test]
async fn a_kept_connection_ends_idle_or_under_the_next_request() {
    let scene = Scene::new().await;
    for (fault, ends) in [
        (Fault::CloseKept, ErrorKind::UnexpectedEof),
        (Fault::ResetKept, ErrorKind::ConnectionReset),
    ] {
        scene.proxy.set(fault);
        let mut stream = scene.connect().await;
        assert_eq!(ask(&mut stream).await, (10, None));
        let before = scene.read.load(Ordering::Relaxed);
        assert_eq!(ask(&mut stream).await, (0, Some(ends)), "{fault:?}");
        assert_eq!(scene.read.load(Ordering::Relaxed), before);
    }
    scene.proxy.set(Fault::Pass);
    let mut stream = scene.connect().await;
    let mut fresh = scene.connect().await;
    assert_eq!(ask(&mut stream).await, (10, None));
    scene.proxy.set(Fault::CloseIdle(Duration::from_millis(20)));
    let ended = rest(&mut stream).await;
    assert_eq!(ended, (0, Some(ErrorKind::UnexpectedEof)));
    // It has carried no answer.
    assert_eq!(rest(&mut fresh).await, (0, Some(ErrorKind::TimedOut)));
    // Nothing of the answer is lost.
    scene.proxy.set(Fault::CloseIdle(Duration::ZERO));
    let mut hasty = scene.connect().await;
    assert_eq!(ask(&mut hasty).await, (10, None));
    assert_eq!(rest(&mut hasty).await, (0, Some(ErrorKind::UnexpectedEof)));
}
