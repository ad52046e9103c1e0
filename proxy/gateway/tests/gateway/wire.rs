//! What a client can put on the wire besides a request: two lengths, two hosts, paths that servers
//! read differently, headers for another hop, broken chunks, silence. None of it goes upstream, and
//! none of it counts against a backend.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::bench::Bench;

const BODY: &str = r#"{"model":"mini","messages":[{"role":"user","content":"hi"}]}"#;

/// A longer wait for an answer is a defect of the gateway.
const PATIENCE: Duration = Duration::from_secs(8);

/// A request with these lines in its head, closed by its end.
fn post(path: &str, lines: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("POST {path} HTTP/1.1\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("api-key: ann-key\r\ncontent-type: application/json\r\n\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A chat request with one Host and these lines besides; the length is among them.
pub(crate) fn chat(lines: &[&str], body: &str) -> Vec<u8> {
    post(
        "/v1/chat/completions",
        &[&["host: gw"], lines].concat(),
        body,
    )
}

/// A chat request whose body and length are good.
pub(crate) fn sized(lines: &[&str]) -> Vec<u8> {
    let length = format!("content-length: {}", BODY.len());
    chat(
        &[&[length.as_str(), "connection: close"], lines].concat(),
        BODY,
    )
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// What the gateway answered until it closed the connection.
pub(crate) struct Seen {
    pub(crate) text: String,
    pub(crate) statuses: Vec<u16>,
}

pub(crate) async fn connect(bench: &Bench) -> Result<TcpStream> {
    let address = bench.url.trim_start_matches("http://");
    TcpStream::connect(address).await.context("connect")
}

/// Sends the bytes and reads until the connection is closed.
pub(crate) async fn send(bench: &Bench, bytes: &[u8]) -> Result<Seen> {
    let mut stream = connect(bench).await?;
    // It may be refused before all of it is sent.
    drop(stream.write_all(bytes).await);
    let mut seen = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut seen)).await;
    let text = String::from_utf8_lossy(&seen).into_owned();
    // A reset is a way to close as well.
    drop(read.with_context(|| format!("the connection stays open after {text:?}"))?);
    let statuses = text
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|answer| answer.get(2..5)?.parse().ok());
    Ok(Seen {
        statuses: statuses.collect(),
        text,
    })
}

/// Sends each, and expects this one answer, a closed connection, and nothing upstream.
async fn refused(cases: Vec<(&str, Vec<u8>, u16)>) -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let mut otherwise = Vec::new();
    for (name, bytes, status) in cases {
        let seen = send(&bench, &bytes).await.context(name.to_owned())?;
        if seen.statuses != [status] {
            otherwise.push(format!("{name}: not {status} but {}", seen.text));
        }
    }
    ensure!(otherwise.is_empty(), "{}", otherwise.join("\n"));
    bench.quiet().await?;
    let upstream = bench.upstream();
    assert!(upstream.is_empty(), "{upstream:?}");
    assert_eq!(bench.counted("upstream_responses_total"), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_body_has_one_length_for_every_reader() -> Result<()> {
    let whole = chunked(BODY);
    let length = format!("content-length: {}", BODY.len());
    let te = "transfer-encoding: chunked";
    refused(vec![
        ("one length twice", chat(&[&length, &length], BODY), 400),
        (
            "two codings",
            chat(&["transfer-encoding: gzip, chunked"], &whole),
            400,
        ),
        (
            "identity first",
            chat(&["transfer-encoding: identity, chunked"], &whole),
            400,
        ),
        (
            "chunked twice",
            chat(&["transfer-encoding: chunked, chunked"], &whole),
            400,
        ),
        ("two lines", chat(&[te, te], &whole), 400),
        (
            "chunked is not last",
            chat(&["transfer-encoding: chunked, identity"], &whole),
            400,
        ),
        (
            "unknown coding",
            chat(&["transfer-encoding: xchunked"], &whole),
            400,
        ),
        (
            "two lengths",
            chat(&[&length, "content-length: 5"], BODY),
            400,
        ),
        (
            "list of lengths",
            chat(&["content-length: 5, 5"], "12345"),
            400,
        ),
        ("signed length", chat(&["content-length: +5"], "12345"), 400),
        ("padded length", chat(&["content-length: 060"], BODY), 400),
        (
            "a length, then chunks",
            chat(&["content-length: 3", te], &whole),
            400,
        ),
        (
            "chunks, then a length",
            chat(&[te, "Content-Length:3"], &whole),
            400,
        ),
        (
            "huge length",
            chat(&["content-length: 99999999999999999999"], BODY),
            400,
        ),
    ])
    .await
}

#[tokio::test]
async fn a_broken_chunk_is_the_clients_fault() -> Result<()> {
    let te = &["transfer-encoding: chunked"][..];
    let cases = [
        ("no number", "zz\r\n{}\r\n0\r\n\r\n"),
        ("negative", "-2\r\n{}\r\n0\r\n\r\n"),
        ("too large a number", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("too long", "2\r\n{}xx\r\n0\r\n\r\n"),
        ("no line end", "2{}\r\n0\r\n\r\n"),
        ("line end in an extension", "2;a=\n\r\n{}\r\n0\r\n\r\n"),
    ];
    refused(cases.map(|(name, body)| (name, chat(te, body), 400)).into()).await
}

#[tokio::test]
async fn exactly_one_valid_host_is_needed() -> Result<()> {
    let length = format!("content-length: {}", BODY.len());
    let close = "connection: close";
    let path = "/v1/chat/completions";
    let with =
        |path: &str, hosts: &[&str]| post(path, &[hosts, &[length.as_str(), close]].concat(), BODY);
    refused(vec![
        ("no host", with(path, &[]), 400),
        ("two hosts", with(path, &["host: gw", "host: evil"]), 400),
        (
            "the same host twice",
            with(path, &["host: gw", "host: gw"]),
            400,
        ),
        ("fragment", with(path, &["host: gw/#@evil"]), 400),
        ("user", with(path, &["host: gw@evil"]), 400),
        ("blank", with(path, &["host: g w"]), 400),
        ("empty", with(path, &["host:"]), 400),
        ("bad port", with(path, &["host: gw:port"]), 400),
        ("a list", with(path, &["host: gw,evil"]), 400),
        ("no label", with(path, &["host: gw..example"]), 400),
        ("only dots", with(path, &["host: .."]), 400),
        ("a dot first", with(path, &["host: .gw"]), 400),
        ("two dots last", with(path, &["host: gw.."]), 400),
        ("no name", with(path, &["host: gw$"]), 400),
        (
            "another scheme",
            with(&format!("ftp://gw{path}"), &["host: gw"]),
            400,
        ),
        (
            "absolute form",
            with(&format!("http://evil{path}"), &["host: gw"]),
            400,
        ),
    ])
    .await
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_is_refused() -> Result<()> {
    let length = format!("content-length: {}", BODY.len());
    let lines = ["host: gw", &length, "connection: close"];
    let cases = [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/a/../v1/chat/completions",
        "/v1/%2e%2e/v1/chat/completions",
        "/v1/%2E/chat/completions",
        "/v1/..;x/chat/completions",
        "/v1/chat/completions;x",
        "/v1/chat%5ccompletions",
        "/v1/chat%00/completions",
        "/v1/chat%0d%0a/completions",
        "/openai/deployments/%2e%2e/chat/completions",
        "/openai/deployments/%/chat/completions",
        "/v1/chat/completions#x",
        "/v1/chat/completions?a=b#",
        "http://gw/v1/chat/completions#",
    ];
    refused(
        cases
            .map(|path| (path, post(path, &lines, BODY), 400))
            .into(),
    )
    .await?;
    // Not on the list of what is served.
    let unknown = [
        "/v1/chat%2fcompletions",
        "/V1/chat/completions",
        "/v1/chat/completions/",
        "/admin",
    ];
    refused(
        unknown
            .map(|path| (path, post(path, &lines, BODY), 404))
            .into(),
    )
    .await
}

#[tokio::test]
async fn a_head_is_bounded() -> Result<()> {
    let many: Vec<String> = (0..120).map(|index| format!("x-{index}: a")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = format!("x-large: {}", "a".repeat(100_000));
    let path = format!("/v1/chat/completions?{}", "a".repeat(70_000));
    refused(vec![
        ("many headers", sized(&many), 431),
        ("a large one", sized(&[&large]), 431),
        (
            "a long path",
            post(&path, &["host: gw", "content-length: 0"], ""),
            431,
        ),
        ("a header that is folded", sized(&["x-a: b", " c: d"]), 400),
        ("a blank before the colon", sized(&["x-a : b"]), 400),
        ("a name with a blank", sized(&["x a: b"]), 400),
        ("a control character", sized(&["x-a: b\0c"]), 400),
    ])
    .await
}

#[tokio::test]
async fn documented_headers_reach_foundry_and_no_member_is_added() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let documented = [
        ("x-policy-id", "strict"),
        ("x-ms-client-request-id", "of-the-client"),
        ("x-ms-oai-image-generation-deployment", "gpt-4o-mini"),
        ("openai-beta", "assistants=v2"),
        ("anthropic-beta", "files-api-2025-04-14"),
        ("anthropic-version", "2023-06-01"),
    ];
    let mut headers = Vec::from(documented);
    headers.push(("api-key", "ann-key"));
    // Models that are not OpenAI's refuse prompt_cache_key.
    let body = r#"{"model":"mini","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = bench.post("/v1/chat/completions", &headers, body).await?;
    assert_eq!(answer.status, 200);
    let upstream = bench.upstream();
    let [request] = upstream.as_slice() else {
        bail!("one request was sent: {upstream:?}");
    };
    for (name, value) in documented {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.body, body.replace("mini", "gpt-4o-mini"));
    Ok(())
}

#[tokio::test]
async fn only_allowed_headers_reach_the_backend() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let seen = send(
        &bench,
        &sized(&[
            "api_key: other",
            "content_length: 3",
            "transfer_encoding: chunked",
            "x-forwarded-for: 10.0.0.1",
            "x-ms-client-principal: root",
            "cookie: a=b",
            "openai-beta: nominated",
            "traceparent: \u{e9}",
            "te: trailers",
            "upgrade: h2c, foo",
            "http2-settings: AAMAAABkAARAAAAAAAIAAAAA",
            "connection: openai-beta, api-key, upgrade, http2-settings",
            "expect: 100-continue",
            "accept: application/json",
        ]),
    )
    .await?;
    assert_eq!(seen.statuses, [100, 200], "{}", seen.text);
    let upstream = bench.upstream();
    let [request] = upstream.as_slice() else {
        bail!("one request was sent: {upstream:?}");
    };
    let mut names: Vec<&str> = request
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "api-key",
            "content-length",
            "content-type",
            "host",
            "x-ms-client-request-id"
        ]
    );
    // The backend's own, though the client declared that header to end here.
    assert_eq!(request.header("api-key"), Some("sim-key"));
    Ok(())
}

#[tokio::test]
async fn one_length_goes_upstream_whatever_the_client_counted_with() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let length = format!("content-length: {}", BODY.len());
    let close = "connection: close";
    let te = "transfer-encoding: chunked";
    let ten = post("/v1/chat/completions", &["host: gw", &length], BODY);
    let ten = String::from_utf8(ten)?.replacen("HTTP/1.1", "HTTP/1.0", 1);
    let trailers = format!(
        "{:x};ext=1\r\n{BODY}\r\n0\r\napi-key: late\r\ncontent-length: 1\r\n\r\n",
        BODY.len()
    );
    let cases = [
        (
            "chunks",
            chat(&[close, "Transfer-Encoding: Chunked"], &chunked(BODY)),
        ),
        (
            "trailers",
            chat(&[close, te, "trailer: api-key"], &trailers),
        ),
        ("HTTP/1.0", ten.into_bytes()),
    ];
    let expected = cases.len();
    for (name, bytes) in cases {
        let seen = send(&bench, &bytes).await.context(name)?;
        assert_eq!(seen.statuses, [200], "{name}: {}", seen.text);
    }
    let upstream = bench.upstream();
    assert_eq!(upstream.len(), expected);
    for request in upstream {
        assert_eq!(request.body, upstream_body(), "{request:?}");
        assert_eq!(request.header("transfer-encoding"), None);
        assert_eq!(request.header("trailer"), None);
        let length = request.header("content-length").context("a length")?;
        assert_eq!(length, upstream_body().len().to_string());
    }
    Ok(())
}

/// The body with the deployment's name in place of the model's.
fn upstream_body() -> String {
    BODY.replace("\"mini\"", "\"gpt-4o-mini\"")
}

#[tokio::test]
async fn a_request_hidden_behind_another_is_judged_like_any_other() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let length = format!("content-length: {}", BODY.len());
    let hidden = String::from_utf8(sized(&[]))?.replace("ann-key", "stolen");
    for (name, lines) in [
        ("pipelined", vec![length.as_str()]),
        (
            "behind an upgrade",
            vec![&length, "upgrade: foo", "connection: upgrade"],
        ),
    ] {
        let seen = send(
            &bench,
            &[chat(&lines, BODY), hidden.clone().into()].concat(),
        )
        .await?;
        assert_eq!(seen.statuses, [200, 401], "{name}: {}", seen.text);
    }
    // After a length and chunks, the owner of the rest is ambiguous.
    let both = chat(
        &["content-length: 3", "transfer-encoding: chunked"],
        &chunked(BODY),
    );
    let seen = send(&bench, &[both, hidden.into()].concat()).await?;
    assert_eq!(seen.statuses, [400], "{}", seen.text);
    // Chunks behind another request come of smuggling alone: how their head reads is not known.
    let behind = chat(&["transfer-encoding: chunked"], &chunked(BODY));
    let seen = send(&bench, &[chat(&[&length], BODY), behind].concat()).await?;
    assert_eq!(seen.statuses, [200, 400], "{}", seen.text);
    assert_eq!(bench.upstream().len(), 3);
    Ok(())
}

/// The status of a request on HTTP/2 without TLS, of which the client knows beforehand.
async fn h2c(bench: &Bench, authority: &str, headers: &[(&str, &str)]) -> Result<(u16, String)> {
    let io = TokioIo::new(connect(bench).await?);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut client, connection) = handshake.await.context("greet")?;
    let url = format!("http://{authority}/v1/chat/completions");
    let mut request = http::Request::post(url).header("api-key", "ann-key");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(BODY)))
        .context("build")?;
    let exchange = async {
        let answer = client.send_request(request).await.context("ask")?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.context("read")?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok((status, text))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => bail!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn http2_without_tls_is_served_and_judged_alike() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let (status, text) = h2c(&bench, "gw", &[]).await?;
    assert_eq!(status, 200, "{text}");
    let (status, text) = h2c(&bench, "gw", &[("host", "gw")]).await?;
    assert_eq!(status, 200, "{text}");
    assert_eq!(bench.upstream().len(), 2);
    for (authority, headers) in [
        ("gw", [("host", "evil")].as_slice()),
        ("gw", &[("host", "gw"), ("host", "gw")]),
        ("gw", &[("content-length", "060")]),
        ("gw@evil", &[]),
    ] {
        let (status, text) = h2c(&bench, authority, headers).await?;
        assert_eq!(status, 400, "{authority}, {headers:?}: {text}");
    }
    let large = "a".repeat(40_000);
    let (status, text) = h2c(&bench, "gw", &[("x-large", &large)]).await?;
    assert_eq!(status, 431, "{text}");
    assert!(text.contains("headers_too_large"), "{text}");
    let names: Vec<String> = (0..101).map(|index| format!("x-{index}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
    assert_eq!(h2c(&bench, "gw", &many).await?.0, 431, "as on HTTP/1.1");
    assert_eq!(bench.upstream().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_greeting_in_pieces_is_understood() -> Result<()> {
    /// The rest is an empty SETTINGS frame.
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let bench = Bench::start(1, Vec::new())?;
    let mut stream = connect(&bench).await?;
    let (head, tail) = GREETING.split_at(3);
    stream.write_all(head).await?;
    let accepted = async || (bench.metric("downstream_connections") == Some(1)).then_some(());
    tests_support::eventually("the connection", PATIENCE, accepted).await?;
    stream.write_all(tail).await?;
    let mut frame = [0; 9];
    let answer = tokio::time::timeout(PATIENCE, stream.read_exact(&mut frame)).await;
    answer.context("it answers")?.context("read")?;
    assert_eq!(frame.get(3), Some(&4), "SETTINGS come first: {frame:?}");
    Ok(())
}

#[tokio::test]
async fn a_silent_or_stalled_peer_is_disconnected() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let started = Instant::now();
    let mut silent = connect(&bench).await?;
    let mut undecided = connect(&bench).await?;
    undecided.write_all(b"P").await?;
    let mut halfway = connect(&bench).await?;
    halfway
        .write_all(&chat(&["content-length: 100"], "{\"model\""))
        .await?;
    let limit = Duration::from_secs(14);
    let (mut nothing, mut neither, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    let all = async {
        tokio::join!(
            silent.read_to_end(&mut nothing),
            undecided.read_to_end(&mut neither),
            halfway.read_to_end(&mut answer)
        )
    };
    let (silent, undecided, halfway) = tokio::time::timeout(limit, all)
        .await
        .context("they are left")?;
    ensure!(
        started.elapsed() >= Duration::from_secs(9),
        "a slow client is not waited for"
    );
    assert_eq!((silent?, nothing.as_slice()), (0, &b""[..]));
    // A reset, since a byte was left unread.
    drop(undecided);
    assert_eq!(neither, b"");
    halfway?;
    let answer = String::from_utf8(answer)?;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    assert!(bench.upstream().is_empty());
    Ok(())
}
