//! The connections to backends, kept per core, and what comes of a call.

mod body;
mod connect;
mod failure;
mod http1;
mod http2;
mod idle;
mod links;
mod patience;
mod pool;
mod stream;
mod term;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::Response;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_api::http1::{Head, strip};
use proxy_core::reach::Reach;

pub(crate) use body::AnswerBody;
use failure::Lost;
pub(crate) use failure::{Failed, Failure};
use links::Lease;
pub(crate) use patience::Patience;
use pool::{Connected, Pool};

use crate::origin::{Origin, Outgoing};
use crate::peer::Peer;
use crate::tail::Tail;

/// How soon a kept connection ends that its server had closed already: the longest round trip there is, twice.
/// One that ends later was at work on the request, which is not sent again here.
const STALE: Duration = Duration::from_secs(2);
/// How often a request goes again that HTTP/2 says was not looked at: a server that goes away may say so on a
/// connection or two before there is a new one.
const MOST_REPEATS: usize = 2;

/// The upstream connections of one core, by the number of their peer.
#[derive(Debug)]
pub(crate) struct Connections {
    pools: Mutex<HashMap<u64, Shared, foldhash::fast::RandomState>>,
    /// Which addresses they may lead to.
    reach: Arc<Reach>,
}

/// A pool goes with its peer.
type Shared = (Weak<Peer>, Arc<Pool>);

impl Connections {
    /// None yet, to addresses that `reach` leaves open.
    pub(crate) fn new(reach: Arc<Reach>) -> Self {
        Self {
            pools: Mutex::default(),
            reach,
        }
    }

    /// Sends, and waits for the head of the answer. `fate` tells what becomes of the call if this is dropped.
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        outgoing: &Outgoing<'_>,
        patience: Patience,
        fate: &Mutex<Fate>,
    ) -> Result<Response<AnswerBody>, Failed> {
        let pool = self.pool(&origin.peer)?;
        let kept = if outgoing.goes_once {
            None
        } else {
            pool.take(patience.now)
        };
        if let Some(connection) = kept {
            match exchange(connection, &pool, origin, outgoing, patience, fate).await {
                Err(lost) if lost.is_unanswered && is_early(patience) => pool.drop_closed(),
                tried => return Ok(tried?),
            }
        }
        let mut repeats = 0;
        loop {
            let connected = match pool.lease() {
                Some(lease) => Connected::Http2(lease),
                None => self.connect(&pool, patience.end()).await?,
            };
            let lease = match connected {
                Connected::Http1(connection) => {
                    let tried = exchange(connection, &pool, origin, outgoing, patience, fate);
                    return Ok(tried.await?);
                }
                Connected::Http2(lease) => lease,
            };
            match request(lease, origin, outgoing, patience, fate).await {
                Err(lost) if lost.is_unanswered && repeats < MOST_REPEATS => repeats += 1,
                tried => return Ok(tried?),
            }
        }
    }

    /// Closes connections that were idle for too long or were closed by their peer, and all of peers that
    /// are gone. To be called each second.
    pub(crate) fn prune(&self, now: Instant) {
        self.pools.lock().retain(|_, (peer, pool)| {
            pool.prune(now);
            peer.strong_count() > 0
        });
    }

    /// Closes all idle connections: others need the memory.
    pub(crate) fn close_idle(&self) {
        for (_, pool) in self.pools.lock().values() {
            pool.close_idle();
        }
    }

    async fn connect(&self, pool: &Pool, deadline: Instant) -> Result<Connected, Failed> {
        match connect(pool, deadline).await {
            Err(failed) if failed.how == Failure::Local => {
                // Idle connections have what it lacks.
                self.close_idle();
                connect(pool, deadline).await
            }
            connected => connected,
        }
    }

    fn pool(&self, peer: &Arc<Peer>) -> Result<Arc<Pool>, Failed> {
        let mut pools = self.pools.lock();
        if let Some((_, pool)) = pools.get(&peer.number) {
            return Ok(Arc::clone(pool));
        }
        let pool = Pool::new(peer, &self.reach).map_err(Failed::unreachable)?;
        let pool = Arc::new(pool);
        pools.insert(peer.number, (Arc::downgrade(peer), Arc::clone(&pool)));
        Ok(pool)
    }
}

/// Whether a kept connection that ends now ends because its server had closed it before it read the request:
/// such an end comes a round trip after the request.
fn is_early(patience: Patience) -> bool {
    clock::instant().saturating_duration_since(patience.now) < STALE
}

async fn connect(pool: &Pool, deadline: Instant) -> Result<Connected, Failed> {
    // A handshake is a large future, and most requests have none.
    let connected = Box::pin(tokio::time::timeout_at(deadline.into(), pool.connect()));
    match connected.await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(Failed::unreachable("no connection in time".to_owned())),
    }
}

/// An exchange on HTTP/1.1.
async fn exchange(
    connection: Box<http1::Connection>,
    pool: &Arc<Pool>,
    origin: &Origin,
    outgoing: &Outgoing<'_>,
    patience: Patience,
    fate: &Mutex<Fate>,
) -> Result<Response<AnswerBody>, Lost> {
    let mut call = Call {
        connection: Some(connection),
        pool,
        fate,
    };
    let Some(connection) = &mut call.connection else {
        return Err(Failed::unreachable("no connection".to_owned()).into());
    };
    let head = connection.exchange(origin, outgoing, patience).await;
    let connection = call.connection.take();
    let (head, Some(connection)) = (head?, connection) else {
        return Err(Failed::unreachable("no connection".to_owned()).into());
    };
    Ok(answer(head, connection, Arc::clone(pool)))
}

fn answer(head: Head, connection: Box<http1::Connection>, pool: Arc<Pool>) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::http1(connection, pool));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// What became of a call that its caller gave up before the answer.
#[derive(Debug, Default)]
pub(crate) enum Fate {
    /// No byte of it was sent.
    #[default]
    Unsent,
    /// It was sent, and may be answered.
    Sent(Option<Unanswered>),
}

/// A call that was sent, without its caller.
#[derive(Debug)]
pub(crate) struct Unanswered {
    connection: Box<http1::Connection>,
    pool: Arc<Pool>,
}

impl Unanswered {
    /// Waits for the head of the answer.
    pub(crate) async fn answer(mut self, until: Instant) -> Option<Response<AnswerBody>> {
        let head = self.connection.head(until).await.ok()?;
        Some(answer(head, self.connection, self.pool))
    }
}

/// A call on a connection. Dropped without its answer, it leaves the connection where another can go on.
struct Call<'a> {
    connection: Option<Box<http1::Connection>>,
    pool: &'a Arc<Pool>,
    fate: &'a Mutex<Fate>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.has_sent()
            // Half a request is worked on by no backend.
            && !connection.is_fed()
        {
            let pool = Arc::clone(self.pool);
            *self.fate.lock() = Fate::Sent(Some(Unanswered { connection, pool }));
        }
    }
}

/// An exchange on HTTP/2.
async fn request(
    lease: Lease,
    origin: &Origin,
    outgoing: &Outgoing<'_>,
    patience: Patience,
    fate: &Mutex<Fate>,
) -> Result<Response<AnswerBody>, Lost> {
    let body = (outgoing.body)().ok_or_else(Failed::given_up)?;
    let fault = body.tail.as_deref().map(Tail::fault);
    let request = origin.request(outgoing, http2::Upload::from(body));
    let answered = lease.link.send(request);
    // Whether a byte leaves is not known from here.
    *fate.lock() = Fate::Sent(None);
    match tokio::time::timeout_at(patience.end().into(), answered).await {
        Ok(Err(_lost)) if fault.is_some_and(|fault| fault.is_set()) => {
            Err(Failed::starved("the client has not sent its body".to_owned()).into())
        }
        Ok(answered) => {
            let (mut parts, body) = answered?.into_parts();
            strip(&mut parts.headers);
            parts.version = http::Version::HTTP_11;
            let body = AnswerBody::http2(body, lease);
            Ok(Response::from_parts(parts, body))
        }
        Err(_elapsed) => Err(Failed::timeout().into()),
    }
}
