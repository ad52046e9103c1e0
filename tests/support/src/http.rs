//! A small HTTP/1.1 client for tests: one connection per request (or a [`Connection`] that the test keeps),
//! no pool and no retry, so a test sees exactly what the server did. Dropping a [`Streaming`] closes its
//! connection, as a client does that disconnects.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

mod connection;

pub use connection::Connection;

/// Longest wait for an answer; a hang fails with a name.
const PATIENCE: Duration = Duration::from_secs(60);

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers as received.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Streaming {
    /// The status code.
    pub status: u16,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// When the headers arrived.
    pub at: Instant,
    body: Incoming,
    // Holds the task that drives the connection: dropping it aborts the task and closes the socket.
    _connection: JoinSet<()>,
}

/// A piece of a body, as one read returned it.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// When it arrived.
    pub at: Instant,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Gets a URL.
///
/// # Errors
/// No complete answer: refused, cut, or too slow. A status is never an error.
pub async fn get(url: &str) -> Result<Answer> {
    request(Method::GET, url, &[], "").await
}

/// Posts a JSON body unchanged: tests also send malformed JSON.
///
/// # Errors
/// No whole answer came. A status is never an error.
pub async fn post_json(
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer> {
    stream_json(url, headers, body).await?.whole().await
}

/// Posts a JSON body and returns the answer once its headers arrive.
///
/// # Errors
/// No answer came. A status is never an error.
pub async fn stream_json(
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Streaming> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    stream(Method::POST, url, &all, body).await
}

/// Sends any request and reads the whole answer.
///
/// # Errors
/// No whole answer came. A status is never an error.
pub async fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer> {
    stream(method, url, headers, body).await?.whole().await
}

/// Sends any request and returns the answer once its headers arrive.
///
/// # Errors
/// The URL is not an absolute `http://` one, or no answer came.
pub async fn stream(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Streaming> {
    let what = format!("{method} {url}");
    timeout(PATIENCE, send(method, url, headers, body.into()))
        .await
        .with_context(|| format!("{what}: no headers within {PATIENCE:?}"))?
        .context(what)
}

async fn send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Streaming> {
    let uri: Uri = url.parse().context("read the URL")?;
    ensure!(
        uri.scheme_str() == Some("http"),
        "only http:// is spoken here"
    );
    let authority = uri
        .authority()
        .context("the URL has no host")?
        .as_str()
        .to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());

    let mut request = Request::builder().method(method).uri(path);
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header(header::HOST, &authority);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).context("build the request")?;

    let address = match uri.port() {
        Some(_) => authority,
        None => format!("{authority}:80"),
    };
    let socket = TcpStream::connect(&address).await.context("connect")?;
    socket.set_nodelay(true).context("set TCP_NODELAY")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .context("shake hands")?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // A broken connection shows as an error of the request or of its body.
        drop(connection.await);
    });
    let (parts, body) = sender
        .send_request(request)
        .await
        .context("send")?
        .into_parts();
    Ok(Streaming {
        status: parts.status.as_u16(),
        headers: parts.headers,
        at: Instant::now(),
        body,
        _connection: driver,
    })
}

// === impl Streaming ===

impl Streaming {
    /// The next piece of the body, or `None` at its proper end.
    ///
    /// # Errors
    /// The body was cut short, or nothing came for a minute.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            let frame = timeout(PATIENCE, self.body.frame())
                .await
                .with_context(|| format!("no byte of the body within {PATIENCE:?}"))?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(bytes) = frame.context("read the body")?.into_data() {
                return Ok(Some(Chunk {
                    at: Instant::now(),
                    bytes,
                }));
            }
        }
    }

    /// All remaining pieces with their times.
    ///
    /// # Errors
    /// The body was cut short, or nothing came for a minute.
    pub async fn chunks(&mut self) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// Reads the rest of the body.
    ///
    /// # Errors
    /// The body was cut short, or nothing came for a minute.
    pub async fn whole(mut self) -> Result<Answer> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            body.extend_from_slice(&chunk.bytes);
        }
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body: body.freeze(),
        })
    }
}

// === impl Answer ===

impl Answer {
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// The body is not JSON of that shape; the error quotes it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}, body {:?}", self.status, self.text()))
    }

    /// A header's value, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[cfg(test)]
mod tests;
