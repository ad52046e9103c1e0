//! What a backend can put on the wire besides an answer: two lengths, broken chunks, heads without an end,
//! an answer too many. None of it reaches the client as a whole answer, and none of it is taken for the
//! answer of the next request.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::bench::{Bench, at, chat};
use crate::raw::{Raw, ask, echo, head, length, request};

/// A longer wait for an answer is a defect of the gateway.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the backend does after the bytes.
#[derive(Clone, Copy)]
enum Then {
    Close,
    /// Waits for the next request.
    Stay,
    /// Writes them again and again.
    Repeat,
}

/// What the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// An error of the gateway: `upstream_failed`.
    Failed,
    /// An answer that is cut.
    Cut,
    /// A whole answer that says hello.
    Hello,
}

type Misdeed = (&'static [u8], Then);

/// A server that answers well, except for the next request after a misdeed is set.
async fn server() -> Result<(Raw, Arc<Mutex<Option<Misdeed>>>)> {
    let misdeed = Arc::new(Mutex::new(None));
    let next = Arc::clone(&misdeed);
    let raw = Raw::start(move |mut stream| {
        let next = Arc::clone(&next);
        async move {
            loop {
                let asked = request(&mut stream).await?;
                let misdeed = next.lock().take();
                let Some((bytes, then)) = misdeed else {
                    echo(&mut stream, &asked).await?;
                    continue;
                };
                stream.write_all(bytes).await?;
                match then {
                    Then::Close => return Ok(()),
                    Then::Stay => {}
                    Then::Repeat => loop {
                        stream.write_all(bytes).await?;
                    },
                }
            }
        }
    })
    .await?;
    Ok((raw, misdeed))
}

async fn seen(bench: &Bench) -> Result<Seen> {
    let answer = tokio::time::timeout(PATIENCE, ask(bench, "misdeed")).await;
    Ok(match answer.context("it is answered")? {
        Err(_cut) => Seen::Cut,
        Ok(answer) if answer.status == 200 && &*answer.body == b"hello" => Seen::Hello,
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(answer.status == 502, "{}: {text}", answer.status);
            ensure!(text.contains("upstream_failed"), "{text}");
            Seen::Failed
        }
    })
}

/// Lets the backend misbehave in each way, and expects that the next request is answered well.
async fn check(cases: &[(&str, &'static [u8], Then, Seen)]) -> Result<()> {
    let (raw, misdeed) = server().await?;
    let bench = Bench::before(at(&raw.url))?;
    let mut otherwise = Vec::new();
    for &(name, bytes, then, expect) in cases {
        *misdeed.lock() = Some((bytes, then));
        let seen = seen(&bench).await.context(name.to_owned())?;
        if seen != expect {
            otherwise.push(format!("{name}: not {expect:?} but {seen:?}"));
        }
        ensure!(misdeed.lock().is_none(), "{name}: it was not asked");
        let next = ask(&bench, name).await.context(name.to_owned())?;
        if (next.status, &*next.body) != (200, name.as_bytes()) {
            let text = String::from_utf8_lossy(&next.body).into_owned();
            otherwise.push(format!("after {name}: {} {text}", next.status));
        }
    }
    ensure!(otherwise.is_empty(), "{}", otherwise.join("\n"));
    bench.quiet().await
}

/// Heads that two readers could read differently.
const HEADS: [(&str, &[u8]); 24] = [
        (
            "a length and chunks",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "chunks and a length",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        ),
        (
            "a length twice",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            "a list of lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
        ),
        (
            "a negative length",
            b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        ),
        (
            "a signed length",
            b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
        ),
        (
            "a huge length",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nhello",
        ),
        (
            "two codings",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "an unknown coding",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "chunks of HTTP/1.0",
            b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "a coding before a blank",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "a folded line",
            b"HTTP/1.1 200 OK\r\na: b\r\n content-length: 5\r\n\r\nhello",
        ),
        (
            "bare line feeds",
            b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
        ),
        (
            "a bare carriage return",
            b"HTTP/1.1 200 OK\r\na: b\rcontent-length: 5\r\n\r\nhello",
        ),
        (
            "a NUL",
            b"HTTP/1.1 200 OK\r\na: b\0\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            "an empty line first",
            b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ),
        ("HTTP/0.9", b"<html>hello</html>"),
        (
            "HTTP/1.2",
            b"HTTP/1.2 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            "a preface of HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        ("a frame of HTTP/2", b"\0\0\0\x04\0\0\0\0\0"),
        (
            "an upgrade",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
        ),
        (
            "no status",
            b"HTTP/1.1 OK\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            "a body of 204",
            b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        ),
    ];

#[tokio::test]
async fn a_head_with_two_readings_is_refused() -> Result<()> {
    let cases = HEADS.map(|(name, bytes)| (name, bytes, Then::Stay, Seen::Failed));
    check(&cases).await
}

#[tokio::test]
async fn a_head_without_an_end_is_refused() -> Result<()> {
    check(&[
        (
            "interim answers",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            Then::Repeat,
            Seen::Failed,
        ),
        (
            "status lines",
            b"HTTP/1.1 200 OK\r\n",
            Then::Repeat,
            Seen::Failed,
        ),
        ("one line", b"HTTP/1.1 200 OK", Then::Repeat, Seen::Failed),
        ("half a version", b"HTTP/1", Then::Close, Seen::Failed),
        (
            "half a head",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
            Then::Close,
            Seen::Failed,
        ),
        (
            "an interim answer only",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            Then::Close,
            Seen::Failed,
        ),
    ])
    .await
}

/// Bodies in chunks that are none.
const CHUNKS: [(&str, &[u8]); 14] = [
    ("no size", b"\r\nhello\r\n0\r\n\r\n"),
    ("a negative size", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a signed size", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("a size with a prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("a size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    ("a blank before a size", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("a blank after a size", b"5 \r\nhello\r\n0\r\n\r\n"),
    (
        "a size that overflows",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    ("a bare line feed after a size", b"5\nhello\r\n0\r\n\r\n"),
    (
        "a bare line feed in an extension",
        b"5;a\nhello\r\n0\r\n\r\n",
    ),
    ("a bare line feed after data", b"5\r\nhello\n0\r\n\r\n"),
    ("more data than the size", b"4\r\nhello\r\n0\r\n\r\n"),
    ("a bare line feed at the end", b"5\r\nhello\r\n0\r\n\n"),
    (
        "an answer as a trailer",
        b"5\r\nhello\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
    ),
];

#[tokio::test]
async fn a_broken_body_is_cut() -> Result<()> {
    let mut cases = Vec::new();
    for (name, body) in CHUNKS {
        let head: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let bytes: &'static [u8] = Vec::leak([head, body].concat());
        cases.push((name, bytes, Then::Stay, Seen::Cut));
    }
    cases.extend([
        (
            "a short body",
            &b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello"[..],
            Then::Close,
            Seen::Cut,
        ),
        (
            "half a chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello",
            Then::Close,
            Seen::Cut,
        ),
        (
            "no last chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Then::Close,
            Seen::Cut,
        ),
        (
            "half a last chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            Then::Close,
            Seen::Cut,
        ),
        (
            "endless extensions",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;transfer-encoding: chunked",
            Then::Repeat,
            Seen::Cut,
        ),
    ]);
    check(&cases).await
}

#[tokio::test]
async fn an_unusual_answer_is_relayed() -> Result<()> {
    check(&[
        (
            "until the end",
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            Then::Close,
            Seen::Hello,
        ),
        (
            "HTTP/1.0",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            Then::Close,
            Seen::Hello,
        ),
        (
            "interim answers",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            Then::Stay,
            Seen::Hello,
        ),
        (
            "extensions and trailers",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
            Then::Stay,
            Seen::Hello,
        ),
        (
            "it closes and does not say so",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            Then::Close,
            Seen::Hello,
        ),
    ])
    .await
}

#[tokio::test]
async fn an_answer_too_many_is_nobodys() -> Result<()> {
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let good = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    for good in good {
        let bytes: &'static [u8] = Vec::leak(format!("{good}{poison}").into_bytes());
        check(&[
            ("with the answer", bytes, Then::Stay, Seen::Hello),
            ("many", bytes, Then::Repeat, Seen::Hello),
        ])
        .await?;
    }
    // Once the connection is kept.
    let later = Arc::new(Notify::new());
    let poisoned = Arc::new(Notify::new());
    let (wanted, written) = (Arc::clone(&later), Arc::clone(&poisoned));
    let raw = Raw::start(move |mut stream| {
        let (wanted, written) = (Arc::clone(&wanted), Arc::clone(&written));
        async move {
            loop {
                let asked = request(&mut stream).await?;
                echo(&mut stream, &asked).await?;
                wanted.notified().await;
                stream.write_all(poison.as_bytes()).await?;
                written.notify_one();
            }
        }
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    for (index, text) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(&*ask(&bench, text).await?.body, text.as_bytes());
        assert_eq!(raw.accepted(), index + 1);
        later.notify_one();
        poisoned.notified().await;
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_byte_by_byte_is_whole() -> Result<()> {
    let raw = Raw::start(|mut stream| async move {
        stream.set_nodelay(true)?;
        loop {
            request(&mut stream).await?;
            let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n";
            for byte in answer {
                stream.write_all(&[*byte]).await?;
                tokio::task::yield_now().await;
            }
        }
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    assert_eq!(seen(&bench).await?, Seen::Hello);
    assert_eq!(seen(&bench).await?, Seen::Hello);
    assert_eq!(raw.accepted(), 1);
    Ok(())
}

/// Larger than what sockets hold (4 MiB), so that all of it cannot be sent before it is read.
fn long() -> String {
    "x".repeat(8 << 20)
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_read() -> Result<()> {
    let raw = Raw::start(|mut stream| async move {
        head(&mut stream).await?;
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nhello";
        stream.write_all(answer).await?;
        // Reads no more.
        std::future::pending::<Result<()>>().await
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    let text = long();
    for connections in 1..=2 {
        let answer = tokio::time::timeout(PATIENCE, ask(&bench, &text));
        let answer = answer.await.context("it is answered")??;
        assert_eq!((answer.status, &*answer.body), (413, &b"hello"[..]));
        // Half a request is on the connection.
        assert_eq!(raw.accepted(), connections);
    }
    bench.quiet().await
}

#[tokio::test]
async fn a_request_goes_on_while_its_answer_is_relayed() -> Result<()> {
    async fn serve(mut stream: TcpStream) -> Result<()> {
        loop {
            let (head, mut body) = head(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n")
                .await?;
            while body.len() < length(&head)? {
                ensure!(stream.read_buf(&mut body).await? > 0, "cut");
            }
            stream.write_all(b"2\r\nlo\r\n0\r\n\r\n").await?;
        }
    }
    let raw = Raw::start(serve).await?;
    let bench = Bench::before(at(&raw.url))?;
    let text = long();
    for _ in 0..2 {
        let answer = tokio::time::timeout(PATIENCE, ask(&bench, &text));
        let answer = answer.await.context("it is answered")??;
        assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
    }
    // All of the request was sent before the answer ended.
    assert_eq!(raw.accepted(), 1);
    Ok(())
}

#[tokio::test]
async fn a_status_that_is_not_for_clients_is_a_failure() -> Result<()> {
    check(&[
        (
            "a redirect",
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: https://evil/\r\ncontent-length: 0\r\n\r\n",
            Then::Close,
            Seen::Failed,
        ),
        (
            "a permanent redirect with a page",
            b"HTTP/1.1 301 Moved Permanently\r\nlocation: /\r\ncontent-length: 5\r\n\r\nhello",
            Then::Close,
            Seen::Failed,
        ),
        (
            "a status above 599",
            b"HTTP/1.1 600 What\r\ncontent-length: 5\r\n\r\nhello",
            Then::Close,
            Seen::Failed,
        ),
        (
            "the highest status",
            b"HTTP/1.1 999 What\r\ncontent-length: 5\r\n\r\nhello",
            Then::Close,
            Seen::Failed,
        ),
        (
            "not modified",
            b"HTTP/1.1 304 Not Modified\r\n\r\n",
            Then::Close,
            Seen::Failed,
        ),
    ])
    .await
}

#[tokio::test]
async fn an_answer_has_the_id_of_the_log_and_nothing_of_the_backends_host() -> Result<()> {
    let raw = Raw::start(|mut stream| async move {
        request(&mut stream).await?;
        let answer = b"HTTP/1.1 200 OK\r\nx-request-id: theirs\r\napim-request-id: azure\r\nset-cookie: a=b\r\n\
                       strict-transport-security: max-age=9\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).await?;
        Ok(())
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    let answer = bench
        .post(
            "/v1/chat/completions",
            &[("api-key", "ann-key"), ("x-request-id", "ours")],
            &chat(false).to_string(),
        )
        .await?;
    assert_eq!(answer.header("x-request-id"), Some("ours"));
    assert_eq!(
        answer.header("x-tundish-upstream-request-id"),
        Some("theirs")
    );
    assert_eq!(answer.header("apim-request-id"), Some("azure"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("strict-transport-security"), None);
    Ok(())
}
