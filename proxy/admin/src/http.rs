//! The admin port: `/livez`, `/readyz`, `/metrics`, and pages that a process adds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tracing::{debug, info};

use crate::shutdown::Shutdown;
use crate::task;

#[cfg(test)]
mod tests;

/// A scraper that sends no request within this time is gone.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the process wants traffic. Starts as no.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that the process is ready, or not any more.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// What was said last.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

type Page = Box<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// What the admin port serves.
pub struct Admin {
    registry: Mutex<Registry>,
    readiness: Readiness,
    pages: BTreeMap<&'static str, Page>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Serves the metrics of `registry` and the state of `readiness`.
    #[must_use]
    pub fn new(registry: Registry, readiness: Readiness) -> Self {
        Self {
            registry: Mutex::new(registry),
            readiness,
            pages: BTreeMap::new(),
        }
    }

    /// Adds a JSON page at `path`. It gets the query as it was sent, without the `?`. An error means
    /// that the query is wrong; the answer is its text, with status 400.
    #[must_use]
    pub fn with_page<T: Serialize, E: fmt::Display>(
        mut self,
        path: &'static str,
        page: impl Fn(&str) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        let written = move |query: &str| {
            let page = page(query).map_err(|error| error.to_string())?;
            serde_json::to_string(&page).map_err(|error| error.to_string())
        };
        self.pages.insert(path, Box::new(written));
        self
    }

    /// Listens on `address`; the port is open when this returns.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(self, address: SocketAddr) -> std::io::Result<Bound> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        info!(%address, "admin port open");
        Ok(Bound {
            admin: Arc::new(self),
            listener,
            address,
        })
    }

    fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        }
        match path {
            "/livez" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if self.readiness.is_ready() => plain(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
            "/metrics" => self.metrics(),
            other => match self.pages.get(other) {
                Some(page) => match page(query) {
                    Ok(json) => with_type(StatusCode::OK, json, "application/json"),
                    Err(why) => plain(StatusCode::BAD_REQUEST, format!("{why}\n")),
                },
                None => {
                    let mut known = String::from("see /livez /readyz /metrics");
                    for path in self.pages.keys() {
                        known.push(' ');
                        known.push_str(path);
                    }
                    known.push('\n');
                    plain(StatusCode::NOT_FOUND, known)
                }
            },
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry.lock()) {
            Ok(()) => with_type(
                StatusCode::OK,
                text,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// An open admin port, not yet served.
#[derive(Debug)]
pub struct Bound {
    admin: Arc<Admin>,
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` **and** beyond: the port answers until the process ends, so that
    /// probes see the drain.
    pub async fn serve(self, mut shutdown: Shutdown) {
        let mut draining = shutdown.is_requested();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.requested(), if !draining => {
                    draining = true;
                    self.admin.readiness.set(false);
                    continue;
                }
            };
            let Ok((stream, _peer)) = accepted else {
                // Out of descriptors: wait for some to be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let admin = Arc::clone(&self.admin);
            let service = service_fn(move |request: Request<Incoming>| {
                let uri = request.uri();
                let answer = admin.answer(request.method(), uri.path(), uri.query().unwrap_or(""));
                async move { Ok::<_, Infallible>(answer) }
            });
            task::spawn("admin connection", async move {
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    debug!(%error, "admin connection ended");
                }
            });
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with_type(status, text, "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, text: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
