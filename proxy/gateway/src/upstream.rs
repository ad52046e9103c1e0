//! The connections to backends, kept per core, and what comes of a call.

mod body;
mod connect;
mod failure;
mod http1;
mod http2;
mod patience;
mod pool;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use http::Response;
use parking_lot::Mutex;
use proxy_admin::errors;
use proxy_api::http1::strip;

pub(crate) use body::AnswerBody;
pub(crate) use failure::{Failed, Failure};
use http2::Sender;
pub(crate) use patience::Patience;
use pool::{Connected, Pool};

use crate::origin::{Origin, Outgoing, Peer};

/// The upstream connections of one core, by the number of their peer.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<u64, Shared, foldhash::fast::RandomState>>);

/// A pool goes with its peer.
type Shared = (Weak<Peer>, Arc<Pool>);

impl Connections {
    /// Sends, and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        outgoing: &Outgoing<'_>,
        patience: Patience,
    ) -> Result<Response<AnswerBody>, Failed> {
        let pool = self.pool(&origin.peer)?;
        while let Some(connection) = pool.take() {
            let tried = exchange(connection, &pool, origin, outgoing, patience).await;
            // It was closed just now.
            if !matches!(&tried, Err(failed) if failed.how == Failure::Unreachable) {
                return tried;
            }
        }
        if let Some(sender) = pool.sender() {
            let tried = request(sender, origin, outgoing, patience).await;
            if !matches!(&tried, Err(failed) if failed.how == Failure::Unreachable) {
                return tried;
            }
        }
        match connect(&pool, patience.end()).await? {
            Connected::Http1(connection) => {
                exchange(connection, &pool, origin, outgoing, patience).await
            }
            Connected::Http2(sender) => request(sender, origin, outgoing, patience).await,
        }
    }

    /// Closes connections that were idle for too long or were closed by their peer, and all of peers that
    /// are gone. To be called each second.
    pub(crate) fn prune(&self, now: Instant) {
        self.0.lock().retain(|_, (peer, pool)| {
            pool.prune(now);
            peer.strong_count() > 0
        });
    }

    fn pool(&self, peer: &Arc<Peer>) -> Result<Arc<Pool>, Failed> {
        let mut pools = self.0.lock();
        if let Some((_, pool)) = pools.get(&peer.number) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool::new(&peer.name).map_err(Failed::unreachable)?);
        pools.insert(peer.number, (Arc::downgrade(peer), Arc::clone(&pool)));
        Ok(pool)
    }
}

async fn connect(pool: &Pool, deadline: Instant) -> Result<Connected, Failed> {
    // A handshake is a large future, and most requests have none.
    let connected = Box::pin(tokio::time::timeout_at(deadline.into(), pool.connect()));
    match connected.await {
        Ok(connected) => connected.map_err(Failed::unreachable),
        Err(_elapsed) => Err(Failed::unreachable("no connection in time".to_owned())),
    }
}

/// An exchange on HTTP/1.1.
async fn exchange(
    mut connection: Box<http1::Connection>,
    pool: &Arc<Pool>,
    origin: &Origin,
    outgoing: &Outgoing<'_>,
    patience: Patience,
) -> Result<Response<AnswerBody>, Failed> {
    let head = connection.exchange(origin, outgoing, patience).await?;
    let body = AnswerBody::http1(connection, Arc::clone(pool));
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok(response)
}

/// An exchange on HTTP/2.
async fn request(
    mut sender: Sender,
    origin: &Origin,
    outgoing: &Outgoing<'_>,
    patience: Patience,
) -> Result<Response<AnswerBody>, Failed> {
    let answered = sender.try_send_request(origin.request(outgoing));
    match tokio::time::timeout_at(patience.end().into(), answered).await {
        Ok(Ok(response)) => {
            let (mut parts, body) = response.into_parts();
            strip(&mut parts.headers);
            parts.version = http::Version::HTTP_11;
            Ok(Response::from_parts(parts, AnswerBody::http2(body)))
        }
        Ok(Err(mut error)) => {
            let cause = errors::chain(error.error());
            // It comes back if no part of it was sent.
            Err(match error.take_message() {
                Some(_unsent) => Failed::unreachable(cause),
                None => Failed::broke_off(cause),
            })
        }
        Err(_elapsed) => Err(Failed::timeout()),
    }
}
