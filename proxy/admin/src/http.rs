//! The admin port: `/livez`, `/readyz`, `/metrics`, and pages that a process adds.
//!
//! Pages name consumers and their use, so only peers on the same machine get them, or those that show a
//! token. Probes are answered whatever else the port does: pages and metrics are computed elsewhere, one
//! at a time, and connections have a bound beyond which the oldest end.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::clock;
use crate::descriptors::{Lent, Reserve, Shortage, Spares};
use crate::exposition::Exposition;
use crate::process;
use crate::reminder::Reminder;
use crate::shutdown::Shutdown;
use crate::stall::Stall;
use crate::task;

mod readiness;
mod token;

pub use readiness::Readiness;
pub use token::{Token, TokenError};

#[cfg(test)]
mod tests;

/// A scraper that sends no request within this time is gone.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Far more than probes, scrapers and operators at their terminals need together.
const CONNECTIONS: usize = 64;
/// Descriptors that are kept for probes: the traffic may take all others. A kubelet has two at once at most.
const SPARES: usize = 4;
/// For a caller that no descriptor is left for; a probe counts it as a failure.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

type Page = Box<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// What the admin port serves.
pub struct Admin {
    registry: Mutex<Registry>,
    /// Of the process itself.
    process: Registry,
    readiness: Readiness,
    pages: BTreeMap<&'static str, Page>,
    token: Option<Token>,
    /// The turn to compute a page: each may walk all counters.
    page_turn: Arc<Semaphore>,
    /// The turn to write the metrics, apart: a page must not hold up a scrape.
    scrape_turn: Arc<Semaphore>,
}

/// What decides about a request, apart from its method.
struct Asked<'a> {
    path: &'a str,
    query: &'a str,
    peer: IpAddr,
    authorization: Option<&'a HeaderValue>,
    accept: Option<&'a HeaderValue>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Serves the metrics of `registry` and of the process, and the state of `readiness`.
    #[must_use]
    pub fn new(registry: Registry, readiness: Readiness) -> Self {
        Self {
            registry: Mutex::new(registry),
            process: process::registry(),
            readiness,
            pages: BTreeMap::new(),
            token: None,
            page_turn: Arc::new(Semaphore::new(1)),
            scrape_turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Gives the pages to peers on other machines too, if they show this token.
    #[must_use]
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
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

    async fn answer(self: &Arc<Self>, method: &Method, asked: Asked<'_>) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        }
        let query = asked.query.to_owned();
        match asked.path {
            "/livez" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => {
                let status = if self.readiness.is_ready() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                plain(status, self.readiness.text())
            }
            "/metrics" => {
                let form = Exposition::asked(asked.accept);
                let work = move |admin: &Self| admin.metrics(form);
                self.compute(&self.scrape_turn, work).await
            }
            path => match self.pages.get_key_value(path) {
                Some((&path, _page)) => match self.refusal(&asked) {
                    Some(refused) => refused,
                    None => {
                        let work = move |admin: &Self| admin.page(path, &query);
                        self.compute(&self.page_turn, work).await
                    }
                },
                None => self.not_found(),
            },
        }
    }

    /// Runs `work` on a thread that may block, once it has the turn. A peer that leaves before gives its
    /// place up.
    async fn compute(
        self: &Arc<Self>,
        turn: &Arc<Semaphore>,
        work: impl FnOnce(&Self) -> Response<Full<Bytes>> + Send + 'static,
    ) -> Response<Full<Bytes>> {
        let failed = || plain(StatusCode::INTERNAL_SERVER_ERROR, "failed\n".to_owned());
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(turn).acquire_owned().await else {
            return failed();
        };
        let admin = Arc::clone(self);
        let computed = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&admin)
        });
        computed.await.unwrap_or_else(|_panicked| failed())
    }

    /// The answer to a peer that may not see pages.
    fn refusal(&self, asked: &Asked<'_>) -> Option<Response<Full<Bytes>>> {
        if asked.peer.to_canonical().is_loopback() {
            return None;
        }
        let Some(token) = &self.token else {
            let text =
                "only for peers on the same machine; --admin-token-file opens it to others\n";
            return Some(plain(StatusCode::FORBIDDEN, text.to_owned()));
        };
        let shown = asked.authorization.map(HeaderValue::as_bytes);
        let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
        if shown.is_some_and(|shown| token.is(shown)) {
            return None;
        }
        let text = "send the admin token: Authorization: Bearer TOKEN\n";
        let mut refused = plain(StatusCode::UNAUTHORIZED, text.to_owned());
        let scheme = HeaderValue::from_static("Bearer");
        refused.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        Some(refused)
    }

    fn page(&self, path: &str, query: &str) -> Response<Full<Bytes>> {
        match self.pages.get(path).map(|page| page(query)) {
            Some(Ok(json)) => with_type(StatusCode::OK, json, "application/json"),
            Some(Err(why)) => plain(StatusCode::BAD_REQUEST, format!("{why}\n")),
            None => self.not_found(),
        }
    }

    fn not_found(&self) -> Response<Full<Bytes>> {
        let mut known = String::from("see /livez /readyz /metrics");
        for path in self.pages.keys() {
            known.push(' ');
            known.push_str(path);
        }
        known.push('\n');
        plain(StatusCode::NOT_FOUND, known)
    }

    fn metrics(&self, form: Exposition) -> Response<Full<Bytes>> {
        match form.page([&self.registry.lock(), &self.process]) {
            Ok(page) => with_type(StatusCode::OK, page, form.content_type()),
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

    fn serve_one(&self, stream: TcpStream, peer: SocketAddr, lent: Option<Lent>) -> JoinHandle<()> {
        let connection = connection(Arc::clone(&self.admin), stream, peer.ip(), lent);
        task::spawn("admin connection", connection)
    }

    /// Serves until `shutdown` **and** beyond: the port answers until the process ends, so that
    /// probes see the drain. From its first stage on the process is not ready.
    pub async fn serve(self, mut shutdown: Shutdown) {
        let mut leaving = false;
        let mut open = Connections::default();
        let (reserve, shortage) = (Reserve::new(), Shortage::default());
        let spares = Spares::new(SPARES);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.leaving(), if !leaving => {
                    leaving = true;
                    self.admin.readiness.leave();
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer)) => open.add(self.serve_one(stream, peer, None)),
                Err(error) => match spares.accept(&error, &self.listener).await {
                    Some((stream, peer, lent)) => {
                        open.add(self.serve_one(stream, peer, Some(lent)));
                    }
                    None => {
                        let answer = |_peer| Bytes::from_static(TURNED_AWAY);
                        let handled = reserve.handle(&error, &self.listener, answer, &shortage);
                        handled.await;
                    }
                },
            }
        }
    }
}

/// Serves one connection. With a lent descriptor it has one request, so that the next caller finds it again.
async fn connection(admin: Arc<Admin>, stream: TcpStream, peer: IpAddr, lent: Option<Lent>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move {
            let uri = request.uri();
            let asked = Asked {
                path: uri.path(),
                query: uri.query().unwrap_or(""),
                peer,
                authorization: request.headers().get(AUTHORIZATION),
                accept: request.headers().get(ACCEPT),
            };
            Ok::<_, Infallible>(admin.answer(request.method(), asked).await)
        }
    });
    let served = http1::Builder::new()
        .keep_alive(lent.is_none())
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(Stall::new(stream)), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "admin connection ended");
    }
    // Behind the socket, which the server has dropped.
    drop(lent);
}

/// The open connections, the oldest first.
#[derive(Debug, Default)]
struct Connections {
    open: VecDeque<JoinHandle<()>>,
    warning: Reminder,
}

impl Connections {
    /// Adds one. Beyond the bound the oldest ends, not this one: it may be a probe, and whoever holds the
    /// others must not decide about the life of the process.
    fn add(&mut self, connection: JoinHandle<()>) {
        self.open.retain(|connection| !connection.is_finished());
        self.open.push_back(connection);
        if self.open.len() <= CONNECTIONS {
            return;
        }
        if let Some(oldest) = self.open.pop_front() {
            oldest.abort();
        }
        if self.warning.is_due(clock::instant()) {
            warn!(
                connections = CONNECTIONS,
                "the admin port has too many connections: the oldest are closed"
            );
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
