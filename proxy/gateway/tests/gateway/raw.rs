//! A backend that writes whatever a test gives it, byte for byte.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tests_support::http::{Answer, Connection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::bench::Bench;

/// Serves on loopback until it is dropped.
pub(crate) struct Raw {
    pub(crate) url: String,
    accepted: Arc<AtomicUsize>,
    // Holds the tasks: dropping it closes the listener and all connections.
    _tasks: JoinSet<()>,
}

impl Raw {
    /// Each connection is served by `serve`; that it fails means that the gateway was not pleased.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Result<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let served = serve(stream);
                connections.spawn(async move { drop(served.await) });
            }
        });
        Ok(Self {
            url,
            accepted,
            _tasks: tasks,
        })
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Reads a request up to the end of its head. The second part is what came of the body.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            return Ok((String::from_utf8(read)?, body));
        }
        let size = stream.read_buf(&mut read).await?;
        anyhow::ensure!(size > 0, "the connection ended");
    }
}

/// Reads a whole request, and returns its body.
pub(crate) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let (head, mut body) = head(stream).await?;
    let length = length(&head)?;
    while body.len() < length {
        let size = stream.read_buf(&mut body).await?;
        anyhow::ensure!(size > 0, "the request is cut");
    }
    anyhow::ensure!(body.len() == length, "bytes follow the request");
    Ok(String::from_utf8(body)?)
}

/// The length that a head announces.
pub(crate) fn length(head: &str) -> Result<usize> {
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    Ok(length.context("a length")?.parse()?)
}

/// Answers with what the request has said.
pub(crate) async fn echo(stream: &mut (impl AsyncWrite + Unpin), request: &str) -> Result<()> {
    let body = said(request).context("nothing was said")?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.flush().await?)
}

/// A request that says this.
pub(crate) fn saying(text: &str) -> String {
    format!(r#"{{"model":"mini","messages":[{{"role":"user","content":"<{text}>"}}]}}"#)
}

fn said(request: &str) -> Option<&str> {
    Some(request.split_once('<')?.1.split_once('>')?.0)
}

/// Asks on a connection of its own.
pub(crate) async fn ask(bench: &Bench, text: &str) -> Result<Answer> {
    let headers = [("api-key", "ann-key")];
    let path = "/v1/chat/completions";
    // Kept while the answer is read.
    let mut client = Connection::open(&bench.url).await?;
    client.post_json(path, &headers, saying(text)).await
}
