//! Two made-up operations, each of one row and one usage reader: the gateway needs to know nothing more
//! than its rows.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use proxy_admin::shutdown::{self, Trigger};
use proxy_api::{
    Answer, Api, Billing, Call, Dialect, ErrorEvent, Form, Grammar, Member, Said, Upstream,
    UsageRequest,
};
use proxy_core::names::{Operation, Usage};
use proxy_core::quota::Unit;
use proxy_core::reach::Reach;
use proxy_core::table::{Backend, Contents, Table};
use proxy_core::test_util::{backend, deployment, key, limit, object, quota, route, rule, target};
use proxy_gateway::{Config, Gateway, Metrics, Serving};
use serde_json::{Value, json};
use tests_support::http;

/// A stream that reports its input in the first event and its output in the last one, as Anthropic's
/// does, and a form whose answer reports seconds.
static ROWS: &[Api] = &[
    Api {
        operation: Operation::Messages,
        dialect: Dialect::Anthropic,
        method: Method::POST,
        paths: &["/made-up/tales"],
        answer: Answer::Backend(Call {
            files: None,
            state: None,
            form: Form::Json,
            members: &[("model", Member::Model), ("stream", Member::Stream)],
            default_model: None,
            upstream: Upstream::OpenAi("tales"),
            output_bounds: &[],
            has_output: true,
            billing: Billing::Metered,
            users: &[],
            usage_request: UsageRequest::None,
            events: &TALES,
            read_usage: of_tale,
            prompt: None,
        }),
    },
    Api {
        operation: Operation::Audio,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        paths: &["/made-up/songs"],
        answer: Answer::Backend(Call {
            files: None,
            state: None,
            form: Form::Multipart,
            members: &[("model", Member::Model)],
            default_model: None,
            upstream: Upstream::OpenAi("songs"),
            output_bounds: &[],
            has_output: true,
            billing: Billing::Metered,
            users: &[],
            usage_request: UsageRequest::None,
            events: &TALES,
            read_usage: of_song,
            prompt: None,
        }),
    },
];

static TALES: Grammar = Grammar {
    event: |_data, _text| Said {
        text: false,
        finish: true,
        failed: false,
    },
    answer: Some(|_answer, _text| {}),
    only_usage: |_data| false,
    end: None,
    read_input: None,
    thought: None,
    error: ErrorEvent::Unnamed,
};

fn of_tale(data: &[u8], earlier: Option<Usage>) -> Option<Usage> {
    let event: Value = serde_json::from_slice(data).ok()?;
    let read = |name: &str| event.get("usage")?.get(name)?.as_u64();
    let earlier = earlier.unwrap_or_default();
    Some(Usage {
        input_tokens: read("read").unwrap_or(earlier.input_tokens),
        output_tokens: read("written").unwrap_or(earlier.output_tokens),
        ..earlier
    })
}

fn of_song(data: &[u8], _earlier: Option<Usage>) -> Option<Usage> {
    let answer: Value = serde_json::from_slice(data).ok()?;
    Some(Usage {
        input_tokens: answer.get("seconds")?.as_u64()?.saturating_mul(10),
        ..Usage::default()
    })
}

/// A backend that answers one request, and hands over what it received.
fn backend_once(answer: String) -> Result<(String, thread::JoinHandle<Result<String>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let request = received(&mut stream)?;
        stream.write_all(answer.as_bytes())?;
        Ok(request)
    });
    Ok((url, served))
}

fn received(stream: &mut TcpStream) -> Result<String> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let size = stream.read(&mut chunk)?;
        request.extend_from_slice(chunk.get(..size).context("a chunk")?);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.context("a length")? {
            return Ok(text.into_owned());
        }
    }
}

struct Running {
    url: String,
    registry: Registry,
    trigger: Trigger,
    serving: Option<Serving>,
}

impl Running {
    /// A gateway for the made-up rows, with `tokens` tokens a minute.
    fn start(backend_url: &str, tokens: u64) -> Result<Self> {
        let mut registry = Registry::default();
        let config = Config {
            listen: "127.0.0.1:0".parse()?,
            reuse_port: false,
            apis: ROWS,
            threads: 1,
            trusted_hops: 0,
            proxy_protocol: false,
            tls: None,
            max_body: 1 << 20,
            max_upload: 64 << 20,
            memory_budget: 256 << 20,
            default_output_tokens: 5,
            reach: Arc::new(Reach::everywhere()),
            drain_grace: Duration::from_secs(5),
            limit_series: 0,
            state_keys: proxy_gateway::StateKeys::of_this_process(),
            access_log: None,
            store: None,
            identity: crate::bench::no_identity(),
        };
        let gateway = Gateway::new(config, Metrics::register(&mut registry));
        let mut route = route("r", vec![rule("rule", vec![target("b")])]);
        route.authentication.keys = vec![object("ann")].into();
        let contents = Contents::new(
            vec![Backend {
                endpoint: backend_url.into(),
                deployments: vec![deployment("deployed", "asked")],
                ..backend("b")
            }],
            vec![route],
            vec![quota("q", vec![limit("l", Unit::Tokens, tokens)])],
            vec![key("ann")],
        );
        gateway.publish(Arc::new(Table::new(contents)));
        gateway.register_limits(&mut registry);
        let (trigger, shutdown) = shutdown::channel();
        let serving = gateway.start(&shutdown)?;
        Ok(Self {
            url: format!("http://{}", serving.address()),
            registry,
            trigger,
            serving: Some(serving),
        })
    }

    fn metric(&self, line: &str) -> Option<u64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).ok()?;
        text.lines()
            .find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
    }

    async fn used(&self, expect: u64) -> Result<()> {
        let used = "limit_used{limit=\"ns/q/l\",unit=\"Tokens\"}";
        tests_support::eventually(
            "the usage is settled",
            Duration::from_secs(10),
            async || (self.metric(used) == Some(expect)).then_some(()),
        )
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.trigger.stop();
        if let Some(serving) = self.serving.take() {
            serving.join();
        }
    }
}

#[tokio::test]
async fn a_stream_with_its_usage_in_two_events_is_one_row() -> Result<()> {
    let events = "event: start\ndata: {\"usage\":{\"read\":7}}\n\n\
                  event: word\ndata: {\"text\":\"once\"}\n\n\
                  event: end\ndata: {\"usage\":{\"written\":12}}\n\n";
    let (url, served) = backend_once(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}"
    ))?;
    let running = Running::start(&url, 1_000)?;
    let body = json!({"model": "asked", "stream": true}).to_string();
    let tales = format!("{}/made-up/tales", running.url);
    let answer = http::post_json(&tales, &[("x-api-key", "ann")], body).await?;
    assert_eq!((answer.status, answer.text()), (200, events.to_owned()));
    running.used(19).await?;
    let request = served.join().expect("no panic")?;
    assert!(
        request.starts_with("POST /openai/v1/tales HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with(r#"{"model":"deployed","stream":true}"#),
        "{request}"
    );
    Ok(())
}

#[tokio::test]
async fn a_form_with_its_model_in_a_field_is_one_row() -> Result<()> {
    let song = json!({"text": "la la", "seconds": 4}).to_string();
    let length = song.len();
    let (url, served) = backend_once(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{song}"
    ))?;
    let running = Running::start(&url, 1_000)?;
    let form = |model: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n\
             sound\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n"
        )
    };
    let songs = format!("{}/made-up/songs", running.url);
    let kind = ("content-type", "multipart/form-data; boundary=b");
    let answer = http::request(
        Method::POST,
        &songs,
        &[("api-key", "ann"), kind],
        form("asked"),
    )
    .await?;
    assert_eq!((answer.status, answer.text()), (200, song));
    running.used(40).await?;
    let request = served.join().expect("no panic")?;
    assert!(request.ends_with(&form("deployed")), "{request}");
    Ok(())
}

#[tokio::test]
async fn an_error_has_the_shape_of_the_rows_dialect() -> Result<()> {
    let running = Running::start("http://127.0.0.1:9", 1)?;
    let body = json!({"model": "asked", "stream": true}).to_string();
    let tales = format!("{}/made-up/tales", running.url);
    let answer = http::post_json(&tales, &[("x-api-key", "ann")], body.clone()).await?;
    let error: Value = answer.json()?;
    assert_eq!(answer.status, 429);
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "rate_limit_error");
    assert_eq!(error["error"]["code"], "quota_exceeded");
    let answer = http::post_json(&tales, &[("x-api-key", "stranger")], body).await?;
    let error: Value = answer.json()?;
    assert_eq!(error["error"]["type"], "authentication_error");
    Ok(())
}
