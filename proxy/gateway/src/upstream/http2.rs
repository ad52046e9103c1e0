//! HTTP/2 to backends that speak nothing else: by hyper.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proxy_admin::{errors, task};
use proxy_api::Pieces;
use tracing::debug;

use super::stream::Stream;

/// Window of one stream: the most of an answer that a slow client may leave in our memory.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of a connection. Large, since h2 gives small frames (SSE) half of it as a budget before it
/// treats them as a flood.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Sends requests on one connection. Clones share it.
pub(super) type Sender = SendRequest<Upload>;

/// Greets the server. The connection lives until its senders are gone and its streams have ended.
pub(super) async fn greet(stream: Stream) -> Result<Sender, String> {
    let greeted = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = greeted.map_err(|error| errors::chain(&error))?;
    task::spawn("backend connection", async {
        if let Err(error) = connection.await {
            debug!(error = errors::chain(&error), "backend connection ended");
        }
    });
    Ok(sender)
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Upload(Pieces);

impl From<Pieces> for Upload {
    fn from(pieces: Pieces) -> Self {
        Self(pieces)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take_next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.0.len()).unwrap_or(u64::MAX))
    }
}
