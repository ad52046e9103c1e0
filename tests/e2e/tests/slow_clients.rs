//! Clients that take nothing, that leave, and that only send no more: the one slot of a `Concurrency` limit
//! shows how long each holds what it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tests_support::{Quickstart, eventually, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The longest time that a request may take here.
const REQUEST: Duration = Duration::from_secs(5);
/// What is late by more is not ended by its timer.
const LATE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(20);

const ROUTE: &str = r#"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication:
    apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}
  rules:
  - name: chat
    timeouts: {request: 5s}
    matches:
    - operations: [ChatCompletions]
    backendRefs:
    - {name: foundry, deployment: gpt-4o}
"#;

const QUOTA: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: one}
spec:
  targetRefs: [{name: chat}]
  limits:
  - {name: at-once, unit: Concurrency, limit: 1}
";

fn backend(address: &str) -> String {
    format!(
        "apiVersion: tundish.dev/v1alpha1\nkind: AIBackend\nmetadata: {{name: foundry}}\nspec:\n  \
         type: OpenAICompatible\n  endpoint: http://{address}\n  allowPlaintext: true\n  \
         auth: {{type: None}}\n  deployments:\n  - {{name: gpt-4o, model: gpt-4o}}\n"
    )
}

/// A gateway with one slot, and a backend that does what the request says.
struct Stage {
    quickstart: Quickstart,
    /// Connections of the backend on which an answer is owed.
    busy: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    _backend: JoinSet<()>,
}

/// Counts a connection while its answer is owed.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a request asks of the backend.
const ENDLESS: &str = "stream without an end";
const LATER: &str = "answer in a second";
const NEVER: &str = "do not answer";
const NOW: &str = "answer now";

const ANSWER: &str = r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"tundish"}}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

async fn serve(
    mut stream: TcpStream,
    busy: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
) -> Result<()> {
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"}") {
            ensure!(stream.read_buf(&mut request).await? > 0, "closed");
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        request.clear();
        busy.fetch_add(1, Ordering::SeqCst);
        asked.fetch_add(1, Ordering::SeqCst);
        let _owed = Busy(Arc::clone(&busy));
        if text.contains(ENDLESS) {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                        transfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            let event = format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
                "x".repeat(8_000)
            );
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            loop {
                stream.write_all(chunk.as_bytes()).await?;
                sleep(Duration::from_millis(1)).await;
            }
        }
        if text.contains(NEVER) {
            // Until the gateway gives it up.
            stream.read_u8().await?;
        }
        if text.contains(LATER) {
            sleep(Duration::from_secs(1)).await;
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            ANSWER.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(ANSWER.as_bytes()).await?;
    }
}

fn body(what: &str) -> String {
    let stream = what == ENDLESS;
    format!(
        r#"{{"model":"gpt-4o","stream":{stream},"messages":[{{"role":"user","content":"{what}"}}]}}"#
    )
}

fn request(what: &str) -> String {
    let body = body(what);
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gw\r\napi-key: search-team-key\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Stage {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let busy = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicUsize::new(0));
        let counts = (Arc::clone(&busy), Arc::clone(&asked));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                let (busy, asked) = counts.clone();
                let served = serve(stream, busy, asked);
                connections.spawn(async move { drop(served.await) });
            }
        });
        let manifests = [
            ("backend.yaml", &*backend(&address)),
            ("route.yaml", ROUTE),
            ("quota.yaml", QUOTA),
        ];
        Ok(Self {
            quickstart: Quickstart::start(&manifests).await?,
            busy,
            asked,
            _backend: serving,
        })
    }

    fn address(&self) -> Result<&str> {
        let address = self.quickstart.gateway.strip_prefix("http://");
        address.context("plain HTTP")
    }

    async fn connect(&self) -> Result<TcpStream> {
        Ok(TcpStream::connect(self.address()?).await?)
    }

    /// Waits until a request has the slot that came after `before` others.
    async fn is_taken(&self, before: usize) -> Result<()> {
        eventually("the backend is asked", PATIENCE, async || {
            (self.asked() > before).then_some(())
        })
        .await?;
        let status = self.ask().await?.status;
        ensure!(status == 429, "{status}: the slot is taken");
        Ok(())
    }

    /// Requests that the backend has received.
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn ask(&self) -> Result<http::Answer> {
        let headers = [("api-key", "search-team-key")];
        http::post_json(&self.quickstart.chat_url(), &headers, body(NOW)).await
    }

    /// How long it takes from now until the slot is free.
    async fn freed(&self) -> Result<Duration> {
        let began = Instant::now();
        eventually("the slot is free", PATIENCE, async || {
            (self.ask().await.ok()?.status == 200).then_some(())
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Waits until the backend owes nothing more.
    async fn backend_is_free(&self) -> Result<()> {
        eventually("the backend is free", PATIENCE, async || {
            (self.busy.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await
    }
}

/// A client of HTTP/2 with this window, which answers PINGs and takes `each` bytes a second.
async fn narrow(address: &str, window: u32, each: usize) -> Result<JoinSet<Result<()>>> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(window)
        .handshake::<_, Bytes>(stream)
        .await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { Ok(connection.await?) });
    let request = ::http::Request::post("http://gw/v1/chat/completions")
        .header("api-key", "search-team-key")
        .header("content-type", "application/json")
        .body(())?;
    let mut sender = sender.ready().await?;
    let (response, mut upload) = sender.send_request(request, false)?;
    upload.send_data(body(ENDLESS).into(), true)?;
    tasks.spawn(async move {
        let mut body = response.await?.into_body();
        loop {
            sleep(Duration::from_secs(1)).await;
            if each > 0 {
                body.flow_control().release_capacity(each).ok();
            }
            // The reset shows here.
            if let Ok(Some(data)) = timeout(Duration::from_millis(1), body.data()).await {
                data?;
            }
        }
    });
    Ok(tasks)
}

#[tokio::test]
async fn a_stream_that_its_client_does_not_take_ends_at_the_requests_timeout() -> Result<()> {
    let stage = Stage::start().await?;
    for (window, each) in [(0, 0), (1_000, 0), (1_000, 50)] {
        let (began, before) = (Instant::now(), stage.asked());
        let mut client = narrow(stage.address()?, window, each).await?;
        stage.is_taken(before).await?;
        stage.freed().await?;
        let held = began.elapsed();
        println!("a window of {window} and {each} more a second: held for {held:?}");
        ensure!(
            held >= REQUEST - Duration::from_secs(1),
            "{held:?} is too early"
        );
        ensure!(held < REQUEST + LATE, "{held:?} is too late");
        stage.backend_is_free().await?;
        let ended = timeout(PATIENCE, client.join_next()).await?;
        let error = ended.context("an end")??.err().context("a reset")?;
        let error: h2::Error = error.downcast()?;
        ensure!(error.is_reset(), "the stream is reset alone: {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_of_http1_that_reads_nothing_is_cut_at_the_requests_timeout() -> Result<()> {
    let stage = Stage::start().await?;
    let began = Instant::now();
    let mut client = stage.connect().await?;
    client.write_all(request(ENDLESS).as_bytes()).await?;
    stage.is_taken(0).await?;
    stage.freed().await?;
    let held = began.elapsed();
    println!("a client that reads nothing: held for {held:?}");
    ensure!(held < REQUEST + LATE, "{held:?} is too late");
    stage.backend_is_free().await
}

#[tokio::test]
async fn a_client_that_is_gone_frees_its_slot_also_behind_unread_bytes() -> Result<()> {
    let stage = Stage::start().await?;
    let rest = request(NEVER).repeat(40);
    for (how, more) in [("alone", ""), ("behind unread bytes", &rest)] {
        for resets in [false, true] {
            let before = stage.asked();
            let mut client = stage.connect().await?;
            client.write_all(request(NEVER).as_bytes()).await?;
            stage.is_taken(before).await?;
            client.write_all(more.as_bytes()).await?;
            sleep(Duration::from_millis(100)).await;
            if resets {
                client.set_zero_linger()?;
            }
            drop(client);
            let held = stage.freed().await?;
            println!("gone {how}, reset {resets}: held for {held:?}");
            ensure!(held < Duration::from_secs(2), "{how}: {held:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_only_sends_no_more_gets_its_answer() -> Result<()> {
    let stage = Stage::start().await?;
    let mut client = stage.connect().await?;
    client.write_all(request(LATER).as_bytes()).await?;
    client.shutdown().await?;
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await??;
    let last = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n");
    let last = last.unwrap_or(&answer);
    ensure!(last.starts_with("HTTP/1.1 200 "), "{answer}");
    ensure!(last.ends_with(ANSWER), "{answer}");
    let metrics = http::get(&format!("{}/metrics", stage.quickstart.admin)).await?;
    let metrics = metrics.text();
    ensure!(
        metrics.contains("tundish_settlements_total{kind=\"measured\"} 1\n"),
        "{metrics}"
    );
    stage.freed().await?;
    Ok(())
}

#[tokio::test]
async fn a_body_that_keeps_its_rate_ends_at_the_requests_timeout() -> Result<()> {
    let stage = Stage::start().await?;
    let client = stage.connect().await?;
    let (mut read, mut write) = client.into_split();
    let began = Instant::now();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gw\r\napi-key: search-team-key\r\n\
                content-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    write.write_all(head.as_bytes()).await?;
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        // 20 KB a second, until the gateway has enough of it.
        while write.write_all(&[b' '; 2_000]).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = vec![0; 1_000];
    let size = timeout(PATIENCE, read.read(&mut answer)).await??;
    let answer = String::from_utf8_lossy(answer.get(..size).unwrap_or_default());
    let took = began.elapsed();
    ensure!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    ensure!(took >= REQUEST && took < REQUEST + LATE, "{took:?}");
    Ok(())
}
