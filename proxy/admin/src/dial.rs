//! Connections to servers whose names tenants write: each address is judged when it is connected to, so a
//! name that means another address today is judged again.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use http::Uri;
use hyper::service::Service as _;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::service::TowerToHyperService;
use proxy_core::reach::{OutOfReach, Reach};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::errors;

#[cfg(test)]
mod tests;

/// Opens TCP connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    tcp: TowerToHyperService<HttpConnector<Resolver>>,
    reach: Arc<Reach>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host, or each of its addresses, is closed to tenants.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
    /// It has no address, or none of them answers.
    #[error("{0}")]
    Connect(String),
}

/// Looks up names, and leaves out the addresses that are closed.
#[derive(Clone, Debug)]
struct Resolver(Arc<Reach>);

type Failed = Box<dyn Error + Send + Sync>;

// === impl Dialer ===

impl Dialer {
    /// Connects to what `reach` leaves open, within this time for each address.
    #[must_use]
    pub fn new(reach: Arc<Reach>, timeout: Option<Duration>, keepalive: Option<Duration>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(Arc::clone(&reach)));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(keepalive);
        tcp.set_connect_timeout(timeout);
        Self {
            tcp: TowerToHyperService::new(tcp),
            reach,
        }
    }

    /// Connects to the host and port of a URI; the port is that of its scheme if it names none.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect(&self, uri: &Uri) -> Result<TcpStream, DialError> {
        // An address is not looked up.
        self.reach.judge_host(uri.host().unwrap_or_default())?;
        match self.tcp.call(uri.clone()).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(error) => Err(DialError::of(&error)),
        }
    }
}

// === impl DialError ===

impl DialError {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(one) = cause {
            if let Some(closed) = one.downcast_ref::<OutOfReach>() {
                return Self::OutOfReach(closed.clone());
            }
            cause = one.source();
        }
        Self::Connect(errors::chain(error))
    }
}

// === impl Resolver ===

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failed>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            open(&reach, name.as_str(), found).map_err(Failed::from)
        })
    }
}

/// The addresses that are open; if none is, why the first is closed.
fn open(
    reach: &Reach,
    name: &str,
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<vec::IntoIter<SocketAddr>, OutOfReach> {
    let (mut open, mut closed) = (Vec::new(), None);
    for address in addresses {
        match reach.judge(name, address.ip()) {
            Ok(()) => open.push(address),
            Err(why) => drop(closed.get_or_insert(why)),
        }
    }
    match closed {
        Some(why) if open.is_empty() => Err(why),
        Some(_) | None => Ok(open.into_iter()),
    }
}
