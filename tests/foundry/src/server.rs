//! Threads and connections.
//!
//! Each thread has a runtime of its own. The first one accepts, and deals connections out in turn,
//! so that a benchmark with few connections loads all threads alike.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::JoinHandle,
};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    runtime,
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{config::Config, control, doors, exchange, foundry::Foundry, stream::Body};

/// Foundry's own limit is not documented; this one fits every request with images.
const MAX_BODY: usize = 64 << 20;
/// Accepted connections that wait for their thread.
const QUEUE: usize = 1024;
/// A gateway multiplexes all its traffic over few h2 connections.
const MAX_STREAMS: u32 = 10_000;

/// The running threads.
#[derive(Debug)]
pub(crate) struct Server {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(config: &Config, foundry: &Arc<Foundry>) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        foundry.entra.base.get_or_init(|| format!("http://{addr}"));
        let (stop, stopped) = watch::channel(false);
        let mut server = Self {
            addr,
            stop,
            threads: Vec::new(),
        };
        let mut deals = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..config.threads.get() {
            let (deal, dealt) = mpsc::channel(QUEUE);
            deals.push(deal);
            workers.push(dealt);
        }
        let mut accepting = Some((listener, deals));
        for (number, dealt) in workers.into_iter().enumerate() {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (foundry, stopped) = (Arc::clone(foundry), stopped.clone());
            let accepting = accepting.take();
            let work = move || runtime.block_on(work(foundry, accepting, dealt, stopped));
            let thread = std::thread::Builder::new().name(format!("foundry-sim-{number}"));
            server.threads.push(thread.spawn(work)?);
        }
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the simulator panicked");
            }
        }
    }
}

type Deal = mpsc::Sender<TcpStream>;

/// One thread's life; its connections are dropped with it.
async fn work(
    foundry: Arc<Foundry>,
    accepting: Option<(TcpListener, Vec<Deal>)>,
    mut dealt: mpsc::Receiver<TcpStream>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    if let Some((listener, deals)) = accepting {
        tasks.spawn(accept(listener, deals));
    }
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            Some(stream) = dealt.recv() => {
                tasks.spawn(serve(Arc::clone(&foundry), stream));
            }
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a connection's task panicked");
            },
        }
    }
}

async fn accept(listener: TcpListener, deals: Vec<Deal>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen"),
    };
    for deal in deals.iter().cycle() {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream.into_std(),
            // Such as too many open files: the listener itself is sound.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        match stream {
            Ok(stream) => {
                if deal.send(stream).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot hand a connection over"),
        }
    }
}

async fn serve(foundry: Arc<Foundry>, stream: TcpStream) {
    let stream = stream
        .set_nodelay(true)
        .and_then(|()| tokio::net::TcpStream::from_std(stream));
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a connection was lost at once"),
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(MAX_STREAMS);
    let service = service_fn(move |request| {
        let foundry = Arc::clone(&foundry);
        async move { Ok::<_, Infallible>(respond(foundry, request).await) }
    });
    if let Err(error) = builder
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        // A caller who hangs up, or a fault that does.
        tracing::debug!(error, "a connection broke");
    }
}

async fn respond(foundry: Arc<Foundry>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return exchange::refuse_body(&foundry, &parts),
    };
    if parts.uri.path().starts_with(control::PREFIX) {
        return control::control(&foundry, &parts, &body);
    }
    if let Some(door) = doors::Door::of(parts.uri.path()) {
        return doors::respond(&foundry, door, &parts, &body).await;
    }
    exchange::respond(&foundry, &parts, &body).await
}
