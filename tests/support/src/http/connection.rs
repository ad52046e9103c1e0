//! One kept connection: for load, and for probes that must not connect each time.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Answer, PATIENCE};

/// One kept connection. Once closed, it stays closed.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
    // Holds the task that drives the connection: dropping it aborts the task and closes the socket.
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects to the host and port of an `http://` URL.
    ///
    /// # Errors
    /// The URL is malformed, or nothing listens there.
    pub async fn open(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().context("read the URL")?;
        let authority = uri.authority().context("the URL has no host")?.as_str();
        let socket = TcpStream::connect(authority).await;
        let socket = socket.with_context(|| format!("connect to {authority}"))?;
        socket.set_nodelay(true).context("set TCP_NODELAY")?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .context("shake hands")?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A broken connection shows as an error of the request.
            drop(connection.await);
        });
        Ok(Self {
            authority: authority.to_owned(),
            sender,
            _driver: driver,
        })
    }

    /// Whether the server has not closed it, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Posts a JSON body to `path` and reads the whole answer.
    ///
    /// # Errors
    /// No whole answer came. A status is never an error.
    pub async fn post_json(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let mut request = Request::post(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()));
        let exchange = self.exchange(request.context("build the request")?);
        timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("{path}: no whole answer within {PATIENCE:?}"))?
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        self.sender
            .ready()
            .await
            .context("the connection is closed")?;
        let answer = self.sender.send_request(request).await.context("send")?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.context("read the body")?.to_bytes();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }
}
