//! Connections to backends: when they are used again, what is spoken on them, and how long anything is
//! waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_core::table::Backend;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tests_support::http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::bench::{Bench, at, chat};
use crate::raw::{Raw, ask, echo, head, length, request};

/// A longer wait is a defect of the gateway.
const PATIENCE: Duration = Duration::from_secs(8);

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
    e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

/// The connections that three requests need, each answered like this.
async fn connections(answer: &'static str, status: u16) -> Result<usize> {
    let raw = Raw::start(move |mut stream| async move {
        loop {
            request(&mut stream).await?;
            stream.write_all(answer.as_bytes()).await?;
        }
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    for _ in 0..3 {
        assert_eq!(ask(&bench, "x").await?.status, status, "{answer}");
    }
    bench.quiet().await?;
    Ok(raw.accepted())
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_answer() -> Result<()> {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200),
        (STREAM, 200),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", 404),
        (
            "HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            500,
        ),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}",
            200,
        ),
    ] {
        assert_eq!(connections(answer, status).await?, 1, "{answer}");
    }
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}\r\n",
    ] {
        assert_eq!(connections(answer, 200).await?, 3, "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_the_client_leaves_closes_its_connection() -> Result<()> {
    let closed = Arc::new(Semaphore::new(0));
    let ended = Arc::clone(&closed);
    let raw = Raw::start(move |mut stream| {
        let ended = Arc::clone(&ended);
        async move {
            request(&mut stream).await?;
            let (head, _end) = STREAM.split_once("0\r\n\r\n").context("an end")?;
            stream.write_all(head.as_bytes()).await?;
            // Until the gateway closes.
            drop(request(&mut stream).await);
            ended.add_permits(1);
            Ok(())
        }
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    let url = format!("{}/v1/chat/completions", bench.url);
    let headers = [("api-key", "ann-key")];
    let mut answer = http::stream_json(&url, &headers, chat(true).to_string()).await?;
    answer.next().await?.context("an event")?;
    drop(answer);
    timeout(PATIENCE, closed.acquire())
        .await?
        .context("it is closed")?
        .forget();
    bench.quiet().await
}

#[tokio::test]
async fn a_connection_closed_meanwhile_costs_no_request() -> Result<()> {
    let closed = Arc::new(Semaphore::new(0));
    let ended = Arc::clone(&closed);
    let raw = Raw::start(move |mut stream| {
        let ended = Arc::clone(&ended);
        async move {
            let asked = request(&mut stream).await?;
            echo(&mut stream, &asked).await?;
            drop(stream);
            ended.add_permits(1);
            Ok(())
        }
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    for index in 0..200 {
        let text = index.to_string();
        let answer = ask(&bench, &text).await?;
        assert_eq!((answer.status, &*answer.body), (200, text.as_bytes()));
        timeout(PATIENCE, closed.acquire())
            .await?
            .context("it is closed")?
            .forget();
    }
    assert_eq!(raw.accepted(), 200);
    Ok(())
}

#[tokio::test]
async fn requests_at_once_have_a_connection_each() -> Result<()> {
    let raw = Raw::start(|mut stream| async move {
        loop {
            let asked = request(&mut stream).await?;
            echo(&mut stream, &asked).await?;
        }
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    for _ in 0..10 {
        let texts: Vec<String> = (0..20).map(|index| index.to_string()).collect();
        let answers = texts.iter().map(|text| ask(&bench, text));
        let answers = futures::future::try_join_all(answers).await?;
        for (answer, text) in answers.iter().zip(&texts) {
            assert_eq!((answer.status, &*answer.body), (200, text.as_bytes()));
        }
    }
    assert!(raw.accepted() <= 20, "{}", raw.accepted());
    Ok(())
}

pub(crate) type Tls = TlsStream<TcpStream>;

/// A server on TLS that agrees to one protocol, and the backend that trusts it. Counts handshakes.
pub(crate) async fn secured<F>(
    alpn: &[u8],
    serve: impl Fn(Tls) -> F + Send + Sync + 'static,
) -> Result<(Raw, Backend, Arc<AtomicUsize>)>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["foundry.test".to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handshakes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handshakes);
    let serve = Arc::new(serve);
    let raw = Raw::start(move |stream| {
        let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
        let serve = Arc::clone(&serve);
        async move {
            let stream = acceptor.accept(stream).await?;
            count.fetch_add(1, Ordering::SeqCst);
            serve(stream).await
        }
    })
    .await?;
    let backend = Backend {
        ca: Some(Arc::new([Arc::from(cert.der().as_ref())])),
        server_name: Some("foundry.test".into()),
        ..at(&raw.url.replace("http:", "https:"))
    };
    Ok((raw, backend, handshakes))
}

pub(crate) async fn speak_http1(mut stream: Tls) -> Result<()> {
    loop {
        let asked = request(&mut stream).await?;
        echo(&mut stream, &asked).await?;
    }
}

async fn speak_http2(stream: Tls) -> Result<()> {
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service_fn(mirror));
    Ok(served.await?)
}

/// Answers on HTTP/2 with the length of the request, and what must not be in it.
async fn mirror(request: hyper::Request<Incoming>) -> Result<hyper::Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    ensure!(
        parts
            .headers
            .get("api-key")
            .is_some_and(|key| key == "sim-key")
    );
    ensure!(!parts.headers.contains_key("host") && parts.uri.scheme_str() == Some("https"));
    ensure!(
        parts.uri.path() == "/openai/v1/chat/completions",
        "{}",
        parts.uri
    );
    let body = body.collect().await?.to_bytes();
    Ok(hyper::Response::new(body.len().to_string().into()))
}

#[tokio::test]
async fn tls_carries_http_1_1() -> Result<()> {
    let (raw, backend, handshakes) = secured(b"http/1.1", speak_http1).await?;
    let bench = Bench::before(backend)?;
    let long = "x".repeat(500_000);
    for text in ["a", &long, "b"] {
        let answer = ask(&bench, text).await?;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert!(&*answer.body == text.as_bytes());
    }
    assert_eq!((raw.accepted(), handshakes.load(Ordering::SeqCst)), (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_answer_without_a_length_is_whole_only_if_tls_was_closed() -> Result<()> {
    async fn serve(mut stream: Tls) -> Result<()> {
        let asked = request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await?;
        stream.flush().await?;
        if asked.contains("<whole>") {
            stream.shutdown().await?;
        }
        Ok(())
    }
    let (_raw, backend, _handshakes) = secured(b"http/1.1", serve).await?;
    let bench = Bench::before(backend)?;
    assert_eq!(&*ask(&bench, "whole").await?.body, b"hello");
    let cut = ask(&bench, "cut").await;
    assert!(cut.is_err(), "{cut:?}");
    bench.quiet().await
}

#[tokio::test]
async fn a_server_of_http_2_alone_is_spoken_to_in_http_2() -> Result<()> {
    let (raw, backend, handshakes) = secured(b"h2", speak_http2).await?;
    let bench = Bench::before(backend)?;
    for text in ["a", "bb", "ccc"] {
        let answer = ask(&bench, text).await?;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let deployed = crate::raw::saying(text).replace("mini", "gpt-4o-mini");
        assert_eq!(&*answer.body, deployed.len().to_string().as_bytes());
    }
    // One was refused, and the other one stays.
    assert_eq!((raw.accepted(), handshakes.load(Ordering::SeqCst)), (2, 1));
    let all = futures::future::try_join_all((0..20).map(|_| ask(&bench, "x"))).await?;
    assert!(all.iter().all(|answer| answer.status == 200));
    assert_eq!(raw.accepted(), 2);
    Ok(())
}

/// The status and code of the gateway's error, which must come in time.
async fn refused(backend: Backend) -> Result<(u16, String)> {
    let bench = Bench::before(backend)?;
    let began = Instant::now();
    let answer = timeout(PATIENCE, ask(&bench, "x"))
        .await
        .context("it is answered")??;
    ensure!(began.elapsed() < Duration::from_secs(4), "too late");
    let body: Value = answer.json()?;
    let code = body.pointer("/error/code").and_then(Value::as_str);
    bench.quiet().await?;
    Ok((answer.status, code.context("a code")?.to_owned()))
}

fn unreachable() -> (u16, String) {
    (502, "upstream_unreachable".to_owned())
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_sent_nothing() -> Result<()> {
    let (_raw, backend, handshakes) = secured(b"http/1.1", speak_http1).await?;
    let other = generate_simple_self_signed(["foundry.test".to_owned()])?;
    let strangers = Backend {
        ca: Some(Arc::new([Arc::from(other.cert.der().as_ref())])),
        ..backend.clone()
    };
    let public = Backend {
        ca: None,
        ..backend.clone()
    };
    let renamed = Backend {
        server_name: None,
        ..backend.clone()
    };
    let broken = Backend {
        ca: Some(Arc::new([Arc::from(&b"no certificate"[..])])),
        ..backend
    };
    for backend in [strangers, public, renamed, broken] {
        assert_eq!(refused(backend).await?, unreachable());
    }
    assert_eq!(handshakes.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test]
async fn a_skipped_check_takes_any_certificate() -> Result<()> {
    let (_raw, backend, handshakes) = secured(b"http/1.1", speak_http1).await?;
    let unchecked = Backend {
        ca: None,
        server_name: None,
        skips_verification: true,
        ..backend
    };
    let bench = Bench::before(unchecked)?;
    assert_eq!(&*ask(&bench, "a").await?.body, b"a");
    assert_eq!(handshakes.load(Ordering::SeqCst), 1);
    bench.quiet().await
}

/// A server that takes connections and says nothing.
async fn silent() -> Result<Raw> {
    async fn serve(mut stream: TcpStream) -> Result<()> {
        request(&mut stream).await?;
        std::future::pending().await
    }
    Raw::start(serve).await
}

#[tokio::test]
async fn a_wait_for_a_connection_or_an_answer_ends() -> Result<()> {
    let short = Duration::from_millis(300);
    let raw = silent().await?;
    let handshake = Backend {
        connect_timeout: short,
        ..at(&raw.url.replace("http:", "https:"))
    };
    assert_eq!(refused(handshake).await?, unreachable());
    let answer = Backend {
        stream_start_timeout: short,
        ..at(&raw.url)
    };
    let bench = Bench::before(answer)?;
    let late = bench.ask(&chat(true)).await?;
    assert_eq!(late.status, 504, "{}", late.text());
    // Nothing was sent yet.
    let both = Backend {
        stream_start_timeout: short,
        ..at(&raw.url.replace("http:", "https:"))
    };
    assert_eq!(refused(both).await?, unreachable());
    Ok(())
}

#[tokio::test]
async fn silence_within_an_answer_ends_it_and_activity_does_not() -> Result<()> {
    let raw = Raw::start(|mut stream| async move {
        request(&mut stream).await?;
        let (head, _body) = STREAM.split_once("e\r\n").context("a head")?;
        stream.write_all(head.as_bytes()).await?;
        // Longer than the limit in all.
        for _ in 0..8 {
            stream.write_all(b"9\r\ndata: 1\n\n\r\n").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending().await
    })
    .await?;
    let bench = Bench::before(Backend {
        idle_timeout: Duration::from_millis(500),
        ..at(&raw.url)
    })?;
    let url = format!("{}/v1/chat/completions", bench.url);
    let headers = [("api-key", "ann-key")];
    let mut answer = http::stream_json(&url, &headers, chat(true).to_string()).await?;
    let mut text = Vec::new();
    let ended = timeout(PATIENCE, async {
        while let Ok(Some(chunk)) = answer.next().await {
            text.extend_from_slice(&chunk.bytes);
        }
    });
    ended.await.context("it ends")?;
    let text = String::from_utf8(text)?;
    assert_eq!(text.matches("data: 1\n\n").count(), 8, "{text}");
    assert!(text.contains("upstream_timeout"), "{text}");
    bench.quiet().await
}

#[tokio::test]
async fn a_client_that_pauses_is_no_silence_of_the_backend() -> Result<()> {
    // More than the kernel holds on the way.
    const SIZE: usize = 32 << 20;
    let raw = Raw::start(|mut stream| async move {
        request(&mut stream).await?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&vec![b' '; SIZE]).await?;
        Ok(stream.flush().await?)
    })
    .await?;
    let idle = Duration::from_millis(300);
    let bench = Bench::before(Backend {
        idle_timeout: idle,
        ..at(&raw.url)
    })?;
    let address = bench.url.trim_start_matches("http://");
    let mut client = TcpStream::connect(address).await?;
    let body = chat(false).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\napi-key: ann-key\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut read = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(idle * 4).await;
        let mut part = vec![0; SIZE / 4];
        client.read_exact(&mut part).await?;
        read.extend_from_slice(&part);
    }
    timeout(PATIENCE, client.read_to_end(&mut read)).await??;
    assert!(read.len() > SIZE, "{} of {SIZE}", read.len());
    bench.quiet().await
}

#[tokio::test]
async fn the_wait_for_an_answer_begins_when_the_request_is_out() -> Result<()> {
    const SIZE: usize = 15 << 20;
    let raw = Raw::start(|mut stream| async move {
        // The kernel holds a small part of the request on the way.
        socket2::SockRef::from(&stream).set_recv_buffer_size(64 << 10)?;
        let (request, body) = head(&mut stream).await?;
        let mut left = length(&request)? - body.len();
        // Longer than the limit in all.
        while left > 0 {
            let mut part = vec![0; left.min(512 << 10)];
            stream.read_exact(&mut part).await?;
            left -= part.len();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        Ok(stream.write_all(answer).await?)
    })
    .await?;
    let bench = Bench::before(Backend {
        stream_start_timeout: Duration::from_millis(900),
        ..at(&raw.url)
    })?;
    assert_eq!(ask(&bench, &"x".repeat(SIZE)).await?.status, 200);
    bench.quiet().await
}
