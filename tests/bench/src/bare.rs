//! A proxy that does nothing but relay: the floor that hyper sets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use proxy_admin::task;
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
}

type Answer = Either<Relayed, Empty<Bytes>>;
type Idle = Mutex<Vec<SendRequest<Incoming>>>;

/// Serves on one current-thread runtime until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await?;
        let idle = Arc::new(Idle::default());
        let upstream = args.upstream;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let idle = Arc::clone(&idle);
            let service = service_fn(move |request| relay(Arc::clone(&idle), upstream, request));
            task::spawn("connection", async move {
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            });
        }
    })
}

async fn relay(
    idle: Arc<Idle>,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    Ok(match forward(idle, upstream, request).await {
        Ok(response) => response.map(Either::Left),
        Err(_error) => {
            let mut response = Response::new(Either::Right(Empty::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}

async fn forward(
    idle: Arc<Idle>,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Relayed>> {
    let kept = idle.lock().pop().filter(|sender| !sender.is_closed());
    let mut sender = match kept {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(upstream).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            task::spawn("upstream", async move {
                connection.await.ok();
            });
            sender
        }
    };
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Relayed::new(body, sender, idle)))
}

/// The body of an answer. Its connection is free once the body has ended, and not before: a second
/// request would wait behind a stream.
#[derive(Debug)]
struct Relayed {
    body: Incoming,
    lease: Option<(SendRequest<Incoming>, Arc<Idle>)>,
}

impl Relayed {
    fn new(body: Incoming, sender: SendRequest<Incoming>, idle: Arc<Idle>) -> Self {
        let mut relayed = Self {
            body,
            lease: Some((sender, idle)),
        };
        if relayed.body.is_end_stream() {
            relayed.give_back();
        }
        relayed
    }

    fn give_back(&mut self) {
        if let Some((sender, idle)) = self.lease.take() {
            idle.lock().push(sender);
        }
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(frame) = &frame
            && (frame.is_none() || self.body.is_end_stream())
        {
            self.give_back();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
