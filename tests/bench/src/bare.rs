//! A proxy that does nothing but relay: the floor that hyper sets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
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

type Body = BoxBody<Bytes, hyper::Error>;
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
) -> Result<Response<Body>, Infallible> {
    Ok(forward(&idle, upstream, request)
        .await
        .unwrap_or_else(|_error| {
            let mut response = Response::new(
                Full::new(Bytes::new())
                    .map_err(|never| match never {})
                    .boxed(),
            );
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }))
}

async fn forward(
    idle: &Idle,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
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
    idle.lock().push(sender);
    Ok(response.map(BodyExt::boxed))
}
