//! What the access log says when someone asks in the night: who it was, which limit refused, which endpoint
//! failed and why, and where the time went.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use proxy_admin::output::Output;
use proxy_admin::telemetry::Format;
use proxy_core::quota::{Mode, Unit};
use proxy_core::reach::Reach;
use proxy_core::table::{Backend, Contents, Quota};
use proxy_core::test_util::{limit, quota};
use proxy_gateway::{AccessLog, Config};
use serde_json::{Value, json};
use tests_foundry::Fault;
use tests_support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Bench, at, chat, contents, minute, routed, sims};
use crate::connections::{secured, speak_http1};

const LIMIT: Duration = Duration::from_secs(20);

/// A gateway whose log is kept.
struct Night {
    bench: Bench,
    kept: Kept,
    output: Output,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Night {
    fn start(
        backends: usize,
        table: impl FnOnce(&[tests_foundry::Sim]) -> Contents,
        adapt: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let kept = Kept::default();
        let output = Output::new(kept.clone(), 4 << 20)?;
        let sims = sims(backends, &tests_foundry::Config::default())?;
        let contents = table(&sims);
        let log = AccessLog {
            format: Format::Json,
            output: output.clone(),
        };
        Ok(Self {
            bench: Bench::logged(sims, contents, log, adapt)?,
            kept,
            output,
        })
    }

    /// The line of the request with this id.
    async fn line(&self, id: &str) -> Result<Value> {
        let wanted = json!(id);
        self.find(|line| line["request_id"] == wanted).await
    }

    async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually("the line is written", LIMIT, async || {
            self.output.flush(LIMIT);
            let text = self.kept.0.lock().clone();
            let mut lines = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
            lines.find_map(|line| line.ok().filter(&wanted))
        })
        .await
    }

    async fn ask(&self, id: &str, more: &[(&str, &str)]) -> Result<u16> {
        let mut headers = vec![("api-key", "ann-key"), ("x-request-id", id)];
        headers.extend(more);
        let body = chat(false).to_string();
        let path = "/v1/chat/completions?api-version=preview";
        Ok(self.bench.post(path, &headers, &body).await?.status)
    }
}

fn check(line: &Value, fields: &[(&str, Value)]) {
    for (field, value) in fields {
        assert_eq!(line.pointer(field), Some(value), "{field}: {line}");
    }
}

#[tokio::test]
async fn a_line_says_who_asked_what_and_what_became_of_it() -> Result<()> {
    let night = Night::start(1, |sims| contents(sims, Vec::new()), |_config| ())?;
    assert_eq!(night.ask("one", &[("user-agent", "tests/1")]).await?, 200);
    let line = night.line("one").await?;
    let body = chat(false).to_string().len();
    let host = night.bench.url.trim_start_matches("http://");
    check(
        &line,
        &[
            ("/v", json!(2)),
            ("/client", json!("127.0.0.1")),
            ("/protocol", json!("HTTP/1.1")),
            ("/method", json!("POST")),
            ("/host", json!(host)),
            ("/path", json!("/v1/chat/completions")),
            ("/user_agent", json!("tests/1")),
            ("/dialect", json!("OpenAI")),
            ("/bytes_in", json!(body)),
            ("/held_output_tokens", json!(100)),
        ],
    );
    let number = |field: &str| line[field].as_u64().context(field.to_owned());
    assert!(number("held_input_tokens")? > 0, "{line}");
    assert!(number("bytes_out")? > 100, "{line}");
    assert!(number("upstream_ms")? <= number("first_byte_ms")?, "{line}");
    assert_eq!(
        line.get("attempts"),
        None,
        "there was one, and it is the line"
    );
    // By the name that the simulated Foundry gave it.
    assert!(line["upstream_request_id"].is_string(), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_reached_no_route_has_a_line() -> Result<()> {
    let night = Night::start(1, |sims| contents(sims, Vec::new()), |_config| ())?;
    let (long, url) = ("m".repeat(300), &night.bench.url);
    for (path, id, status, code) in [
        ("/no/such/path", "path", 404, "unknown_path"),
        (
            &format!("/openai/deployments/{long}/chat/completions"),
            "long",
            400,
            "invalid_request",
        ),
    ] {
        let headers = [("api-key", "ann-key"), ("x-request-id", id)];
        let answer = night.bench.post(path, &headers, "{}").await?;
        assert_eq!(answer.status, status, "{url}{path}");
        let line = night.line(id).await?;
        let path = path.get(..256).unwrap_or(path);
        check(
            &line,
            &[
                ("/code", json!(code)),
                ("/path", json!(path)),
                ("/bytes_out", json!(answer.body.len())),
            ],
        );
        assert_eq!(line.get("model"), None, "{line}");
    }
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    stream.write_all(b"\x16\x03\x01 no HTTP\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let line = night
        .find(|line| line["status"] == 400 && line.get("method").is_none())
        .await?;
    check(
        &line,
        &[
            ("/code", json!("invalid_request")),
            ("/client", json!("127.0.0.1")),
        ],
    );
    Ok(())
}

#[tokio::test]
async fn a_429_names_its_limit_and_a_shadow_limit_is_named_too() -> Result<()> {
    let table = |sims: &[tests_foundry::Sim]| {
        let mut contents = contents(sims, vec![minute(Unit::Requests, 2)]);
        let shadow = Quota {
            mode: Mode::Shadow,
            ..quota("watched", vec![limit("one", Unit::Requests, 1)])
        };
        contents.quotas.push(Arc::new(shadow));
        contents
    };
    let night = Night::start(1, table, |_config| ())?;
    for (id, status) in [("first", 200), ("second", 200), ("third", 429)] {
        assert_eq!(night.ask(id, &[]).await?, status);
    }
    let first = night.line("first").await?;
    assert_eq!(
        (first.get("limit"), first.get("shadow_limits")),
        (None, None)
    );
    let second = night.line("second").await?;
    check(&second, &[("/shadow_limits", json!(["ns/watched/one"]))]);
    let third = night.line("third").await?;
    check(&third, &[("/limit", json!("ns/q/minute"))]);
    assert!(third["bytes_out"].as_u64().is_some_and(|size| size > 0));
    for (code, count) in [("ok", 2), ("rate_limited", 1)] {
        let labels = format!("{{route=\"ns/chat\",consumer=\"ns/ann\",code=\"{code}\"}}");
        let name = format!("consumer_requests_total{labels}");
        assert_eq!(night.bench.metric(&name), Some(count), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_has_both_tries_and_the_reason() -> Result<()> {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?;
    let nowhere = format!("http://{}", closed.local_addr()?);
    drop(closed);
    let table = |sims: &[tests_foundry::Sim]| {
        let urls = [nowhere, sims[0].url(), sims[1].url()];
        routed(urls.iter().map(|url| at(url)).collect(), Vec::new())
    };
    let night = Night::start(2, table, |_config| ())?;
    night.bench.sims[0].faults(vec![Fault {
        status: Some(429),
        times: Some(1),
        ..Fault::default()
    }])?;
    assert_eq!(night.ask("retried", &[]).await?, 200);
    let line = night.line("retried").await?;
    check(
        &line,
        &[
            ("/tries", json!(3)),
            ("/backend", json!("ns/b2")),
            ("/attempts/0/backend", json!("ns/b0")),
            ("/attempts/0/cause", json!("upstream_unreachable")),
            ("/attempts/1/backend", json!("ns/b1")),
            ("/attempts/1/status", json!(429)),
            ("/attempts/1/cause", json!("backend_throttled")),
            ("/attempts/2/backend", json!("ns/b2")),
            ("/attempts/2/status", json!(200)),
        ],
    );
    let error = line.pointer("/attempts/0/error").and_then(Value::as_str);
    assert!(
        error.is_some_and(|error| error.contains("refused")),
        "{line}"
    );
    assert_eq!(line.pointer("/attempts/2/cause"), None);
    for (backend, reason) in [
        ("ns/b0", "upstream_unreachable"),
        ("ns/b1", "backend_throttled"),
    ] {
        let name = format!(
            "upstream_retries_total{{backend=\"{backend}\",deployment=\"gpt-4o-mini\",reason=\"{reason}\"}}"
        );
        assert_eq!(night.bench.metric(&name), Some(1), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn the_request_id_is_ours_and_the_backends_goes_by_another_name() -> Result<()> {
    let night = Night::start(1, |sims| contents(sims, Vec::new()), |_config| ())?;
    let headers = [("x-request-id".to_owned(), "of-the-backend".to_owned())];
    night.bench.sims[0].faults(vec![Fault {
        status: Some(400),
        headers: headers.into(),
        ..Fault::default()
    }])?;
    let headers = [("api-key", "ann-key"), ("x-request-id", "ours")];
    let path = "/v1/chat/completions";
    let answer = night
        .bench
        .post(path, &headers, &chat(false).to_string())
        .await?;
    assert_eq!(answer.header("x-request-id"), Some("ours"));
    assert_eq!(
        answer.header("x-tundish-upstream-request-id"),
        Some("of-the-backend")
    );
    Ok(())
}

#[tokio::test]
async fn forwarded_addresses_count_only_behind_trusted_proxies() -> Result<()> {
    let forged = ("x-forwarded-for", "203.0.113.1, 198.51.100.2");
    for (trusted_hops, expect) in [
        (0, "127.0.0.1"),
        (1, "198.51.100.2"),
        (2, "203.0.113.1"),
        (3, "127.0.0.1"),
    ] {
        let night = Night::start(
            1,
            |sims| contents(sims, Vec::new()),
            |config| config.trusted_hops = trusted_hops,
        )?;
        assert_eq!(night.ask("one", &[forged]).await?, 200);
        check(&night.line("one").await?, &[("/client", json!(expect))]);
    }
    Ok(())
}

/// What a gateway with `--proxy-protocol` answers to these bytes.
async fn announced(night: &Night, header: &[u8], id: &str) -> Result<String> {
    let address = night.bench.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await?;
    // In two parts, as a network may deliver them.
    let (first, rest) = header.split_at(header.len() / 2);
    stream.write_all(first).await?;
    stream.flush().await?;
    tokio::task::yield_now().await;
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nhost: h\r\napi-key: ann-key\r\nx-request-id: {id}\r\n\
         connection: close\r\n\r\n"
    );
    // The gateway may have closed the connection at the first part.
    let rest = [rest, request.as_bytes()].concat();
    stream.write_all(&rest).await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer))
        .await?
        .ok();
    Ok(String::from_utf8(answer)?)
}

fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family, 0]);
    header.push(u8::try_from(addresses.len()).expect("short"));
    header.extend(addresses);
    header
}

#[tokio::test]
async fn a_balancer_names_the_client_before_the_first_byte() -> Result<()> {
    let table = |sims: &[tests_foundry::Sim]| contents(sims, Vec::new());
    let night = Night::start(1, table, |config| config.proxy_protocol = true)?;
    let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let with_tlv = [&v4[..], &[0xea, 0, 3, 1, 2, 3]].concat();
    let mut v6 = "2001:db8::7"
        .parse::<std::net::Ipv6Addr>()?
        .octets()
        .to_vec();
    v6.extend([0; 20]);
    for (header, id, client) in [
        (header(0x21, 0x11, &v4), "v4", "203.0.113.9"),
        (header(0x21, 0x11, &with_tlv), "tlv", "203.0.113.9"),
        (header(0x21, 0x21, &v6), "v6", "2001:db8::7"),
        (header(0x20, 0x00, &[]), "local", "127.0.0.1"),
    ] {
        let answer = announced(&night, &header, id).await?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{id}: {answer}");
        check(&night.line(id).await?, &[("/client", json!(client))]);
    }
    for (header, id) in [
        (
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\r\n".to_vec(),
            "v1",
        ),
        (Vec::new(), "none"),
        (header(0x21, 0x31, &[0; 216]), "unix"),
        (header(0x21, 0x11, &v4[..11]), "cut"),
    ] {
        assert_eq!(announced(&night, &header, id).await?, "", "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn without_the_flag_a_balancers_header_is_no_request() -> Result<()> {
    let night = Night::start(1, |sims| contents(sims, Vec::new()), |_config| ())?;
    let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let answer = announced(&night, &header(0x21, 0x11, &v4), "id").await?;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_line_says_why_a_backend_was_not_spoken_to() -> Result<()> {
    let (_raw, trusted, _handshakes) = secured(b"http/1.1", speak_http1).await?;
    let renamed = Backend {
        server_name: Some("other.test".into()),
        ..trusted.clone()
    };
    let public = Backend {
        ca: None,
        ..trusted.clone()
    };
    let everywhere = Reach::everywhere();
    for (backend, reach, code, why) in [
        (
            renamed,
            &everywhere,
            "upstream_unreachable",
            "the backend's certificate is for foundry.test, not for other.test",
        ),
        (
            public,
            &everywhere,
            "upstream_unreachable",
            "the backend's certificate is of an authority that is not trusted",
        ),
        (
            trusted,
            &Reach::default(),
            "backend_out_of_reach",
            "127.0.0.1 is the gateway's own machine, where this installation allows no backends",
        ),
    ] {
        let table = |_sims: &[tests_foundry::Sim]| routed(vec![backend], Vec::new());
        let night = Night::start(0, table, |config| config.reach = Arc::new(reach.clone()))?;
        assert_eq!(night.ask("one", &[]).await?, 502);
        let line = night.line("one").await?;
        check(
            &line,
            &[("/code", json!(code)), ("/attempts/0/cause", json!(code))],
        );
        let told = line.pointer("/attempts/0/error").and_then(Value::as_str);
        assert!(told.is_some_and(|told| told.starts_with(why)), "{line}");
    }
    Ok(())
}
