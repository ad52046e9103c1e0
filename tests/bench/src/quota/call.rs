//! One caller on one keep-alive connection, which reads whole answers and streams to their end.
//!
//! Raw sockets, as in the closed loop of the other benchmarks: thousands of callers share the
//! machine with what they measure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer may take longer; a gateway that hangs is a failure with a name.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 200, and whole.
    Answered,
    /// 429, with the wait that it names.
    Refused(Option<Duration>),
    /// Any other status.
    Failed(u16),
    /// The connection broke, before the answer or within it.
    Cut,
}

/// A caller and where it calls: the first address that accepts a connection.
#[derive(Debug)]
pub(super) struct Caller {
    targets: Vec<SocketAddr>,
    request: Arc<[u8]>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    broken: String,
}

impl Caller {
    pub(super) fn new(targets: Vec<SocketAddr>, request: Arc<[u8]>) -> Self {
        Self {
            targets,
            request,
            stream: None,
            buffer: Vec::new(),
            broken: String::new(),
        }
    }

    /// Connects now, so that the first call costs no more than the others.
    pub(super) async fn connect(&mut self) -> Result<()> {
        self.stream = Some(connect(&self.targets).await?);
        Ok(())
    }

    /// Sends the request once, and reads the answer to its end.
    pub(super) async fn call(&mut self) -> Outcome {
        let answer = tokio::time::timeout(PATIENCE, self.exchange()).await;
        let broken = match answer {
            Ok(Ok((outcome, keep))) => {
                if !keep {
                    self.stream = None;
                }
                return outcome;
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no whole answer within {PATIENCE:?}"),
        };
        self.stream = None;
        let begin = self.buffer.get(..self.buffer.len().min(200));
        self.broken = format!(
            "{broken}; so far: {:?}",
            String::from_utf8_lossy(begin.unwrap_or_default())
        );
        Outcome::Cut
    }

    /// Why the last call was cut that was.
    pub(super) fn broken(&self) -> &str {
        &self.broken
    }

    async fn exchange(&mut self) -> Result<(Outcome, bool)> {
        // A server may end a connection that rests, and whoever dies does.
        if self.stream.as_ref().is_some_and(is_closed) {
            self.stream = None;
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(connect(&self.targets).await?),
        };
        self.buffer.clear();
        stream.write_all(&self.request).await.context("send")?;
        let answer = read(stream, &mut self.buffer).await?;
        let outcome = match answer.status {
            200 => Outcome::Answered,
            429 => Outcome::Refused(answer.wait),
            status => Outcome::Failed(status),
        };
        Ok((outcome, answer.keep))
    }
}

/// Whether the other side has closed a connection on which nothing is awaited.
fn is_closed(stream: &TcpStream) -> bool {
    let nothing_yet = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    !stream.try_read(&mut [0]).is_err_and(nothing_yet)
}

async fn connect(targets: &[SocketAddr]) -> Result<TcpStream> {
    for target in targets {
        if let Ok(stream) = TcpStream::connect(target).await {
            stream.set_nodelay(true)?;
            return Ok(stream);
        }
    }
    anyhow::bail!("no replica accepts a connection")
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    wait: Option<Duration>,
    keep: bool,
    length: Length,
}

#[derive(Debug, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Head> {
    let end = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, buffer).await?;
    };
    let answer = head(buffer.get(..end).unwrap_or_default())?;
    match answer.length {
        Length::Known(length) => {
            while buffer.len() < end + length {
                more(stream, buffer).await?;
            }
        }
        // The last chunk; events hold JSON, in which no bare line end is.
        Length::Chunked => {
            while !buffer.ends_with(b"\r\n0\r\n\r\n") {
                more(stream, buffer).await?;
            }
        }
    }
    Ok(answer)
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    let read = stream.read_buf(buffer).await.context("read")?;
    ensure!(read > 0, "the answer was cut");
    Ok(())
}

fn head(bytes: &[u8]) -> Result<Head> {
    let text = std::str::from_utf8(bytes)?;
    let status = text
        .split(' ')
        .nth(1)
        .context("an answer without status")?
        .parse()?;
    let mut head = Head {
        status,
        wait: None,
        keep: true,
        length: Length::Known(0),
    };
    let mut seconds = None;
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "retry-after-ms" => head.wait = Some(Duration::from_millis(value.parse()?)),
            "retry-after" => seconds = value.parse().ok().map(Duration::from_secs),
            "connection" => head.keep = !value.eq_ignore_ascii_case("close"),
            "content-length" => head.length = Length::Known(value.parse()?),
            "transfer-encoding" => head.length = Length::Chunked,
            _ => {}
        }
    }
    head.wait = head.wait.or(seconds);
    Ok(head)
}

/// A chat request, ready for the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chat<'a> {
    /// What follows `authorization: Bearer`.
    pub(super) key: &'a str,
    pub(super) model: &'a str,
    /// Words of the prompt.
    pub(super) words: usize,
    pub(super) max_tokens: Option<u64>,
    pub(super) stream: bool,
}

impl Chat<'_> {
    pub(super) fn request(self) -> Arc<[u8]> {
        const TEXT: [&str; 8] = [
            "please", "tell", "us", "what", "the", "ladle", "poured", "today",
        ];
        let words: Vec<&str> = TEXT.into_iter().cycle().take(self.words).collect();
        let messages = serde_json::json!([{"role": "user", "content": words.join(" ")}]);
        let mut body = serde_json::Map::new();
        body.insert("model".to_owned(), self.model.into());
        body.insert("messages".to_owned(), messages);
        if let Some(most) = self.max_tokens {
            body.insert("max_tokens".to_owned(), most.into());
        }
        if self.stream {
            body.insert("stream".to_owned(), true.into());
        }
        let body = serde_json::Value::Object(body).to_string();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        )
        .into_bytes()
        .into()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_exact_wait_wins_over_the_one_in_seconds() {
        let text = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\nRetry-After-Ms: 1250\r\n\
            connection: close\r\ncontent-length: 7\r\n\r\n";
        let expected = Head {
            status: 429,
            wait: Some(Duration::from_millis(1250)),
            keep: false,
            length: Length::Known(7),
        };
        assert_eq!(head(text).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closed_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut caller = Caller::new(vec![address], Arc::from(*b"x"));
        caller.connect().await.unwrap();
        drop(listener.accept().await.unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream
        };
        // Until the end of the old one has arrived.
        caller.stream.as_ref().unwrap().readable().await.unwrap();
        let (outcome, _stream) = tokio::join!(caller.call(), server);
        assert_eq!(outcome, Outcome::Answered);
    }

    #[tokio::test]
    async fn tells_a_whole_stream_from_a_cut_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
            for end in ["0\r\n\r\n", ""] {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                let answer = format!("{begin}{end}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let chat = Chat {
            key: "key",
            model: "gpt-4o",
            words: 3,
            max_tokens: Some(2),
            stream: true,
        };
        let mut caller = Caller::new(vec![address], chat.request());
        let calls = async { (caller.call().await, caller.call().await) };
        let ((), outcomes) = tokio::join!(
            async {
                server.await;
            },
            calls
        );
        assert_eq!(outcomes, (Outcome::Answered, Outcome::Cut));
    }
}
