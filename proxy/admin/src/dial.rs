//! Connections to servers whose names tenants write: each address is judged when it is connected to, so a
//! name that means another address today is judged again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy_core::reach::{OutOfReach, Reach};
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::errors;
use crate::host::{Host, NotFound};

#[cfg(test)]
mod tests;

/// When the next address is tried beside one that does not answer: RFC 8305, section 5.
const STAGGER: Duration = Duration::from_millis(250);

/// An idle connection is probed after this, and is dead after three probes without an answer: half a minute
/// in all. It also keeps the flow in the tables of load balancers, which forget one after minutes.
const KEEPALIVE: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// How long the kernel sends again what the peer does not acknowledge, instead of a quarter of an hour. A peer
/// that is alive acknowledges all, however long its answer takes; only one with full buffers that reads nothing
/// of a request for this long is cut, too.
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// Opens TCP connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    reach: Arc<Reach>,
    /// Connections so far: of several addresses each is the first in turn.
    turns: Arc<AtomicUsize>,
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
    /// This process has no descriptor, memory or port left.
    #[error("{0}")]
    Local(String),
}

// === impl Dialer ===

impl Dialer {
    /// Connects to what `reach` leaves open.
    #[must_use]
    pub fn new(reach: Arc<Reach>) -> Self {
        Self {
            reach,
            turns: Arc::default(),
        }
    }

    /// Connects to a port of a host: to its addresses one after the other, each a moment after the last
    /// one, or as soon as that has failed. Waits without a bound of its own.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect(&self, host: &Host, port: u16) -> Result<TcpStream, DialError> {
        // An address is not looked up.
        self.reach.judge_host(host.as_written())?;
        let found = host.addresses().await?;
        let open = open(&self.reach, host.as_written(), &found)?;
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let places = alternate(&open, turn);
        let mut places = places.map(|address| SocketAddr::new(address, port));
        race(&mut places).await
    }
}

// === impl DialError ===

impl DialError {
    fn of(error: &io::Error, address: SocketAddr) -> Self {
        let cause = format!("connect to {address}: {}", errors::chain(error));
        if is_local(error.raw_os_error(), address.ip()) {
            Self::Local(cause)
        } else {
            Self::Connect(cause)
        }
    }
}

impl From<NotFound> for DialError {
    fn from(error: NotFound) -> Self {
        let unspecified = IpAddr::from([0; 4]);
        if is_local(error.os_error, unspecified) {
            Self::Local(error.to_string())
        } else {
            Self::Connect(error.to_string())
        }
    }
}

/// Whether an error says that this process lacks something, and nothing about the peer.
fn is_local(os_error: Option<i32>, address: IpAddr) -> bool {
    let Some(number) = os_error else { return false };
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    // No port is free. On IPv6 it mostly means that the machine has no IPv6.
    lacks.iter().any(|lack| lack.raw_os_error() == number)
        || (number == Errno::ADDRNOTAVAIL.raw_os_error() && address.is_ipv4())
}

/// The addresses that are open; if none is, why the first is closed.
fn open(reach: &Reach, name: &str, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, OutOfReach> {
    let (mut open, mut closed) = (Vec::new(), None);
    for &address in addresses {
        match reach.judge(name, address) {
            Ok(()) => open.push(address),
            Err(why) => drop(closed.get_or_insert(why)),
        }
    }
    match closed {
        Some(why) if open.is_empty() => Err(why),
        Some(_) | None => Ok(open),
    }
}

/// The addresses in the order in which they are tried: both families in turn, the resolver's favourite first,
/// and within a family each address first at its turn.
fn alternate(addresses: &[IpAddr], turn: usize) -> impl Iterator<Item = IpAddr> {
    let favourite = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == favourite);
    for family in [&mut first, &mut second] {
        let by = turn.checked_rem(family.len()).unwrap_or_default();
        family.rotate_left(by);
    }
    let longer = first.len().max(second.len());
    let at = |family: &[IpAddr], index: usize| family.get(index).copied();
    (0..longer).flat_map(move |index| {
        [at(&first, index), at(&second, index)]
            .into_iter()
            .flatten()
    })
}

/// The first connection that opens. The other attempts are given up.
async fn race(places: &mut impl Iterator<Item = SocketAddr>) -> Result<TcpStream, DialError> {
    let mut attempts = JoinSet::new();
    let mut failed = None;
    let mut next = places.next();
    loop {
        if let Some(place) = next.take() {
            attempts.spawn(attempt(place));
            next = places.next();
        }
        let ended = match next {
            Some(_) => match tokio::time::timeout(STAGGER, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_elapsed) => continue,
            },
            None => attempts.join_next().await,
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => {
                let is_worse = matches!(error, DialError::Local(_)) || failed.is_none();
                failed = if is_worse { Some(error) } else { failed };
            }
            Some(Err(_panicked)) => {}
            None => break,
        }
    }
    Err(failed.unwrap_or_else(|| DialError::Connect("no address was tried".to_owned())))
}

async fn attempt(place: SocketAddr) -> Result<TcpStream, DialError> {
    let connected = async {
        let socket = match place {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Coalescing would delay bytes.
        socket.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&socket, PROBE)?;
        sockopt::set_tcp_keepcnt(&socket, PROBES)?;
        sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MS)?;
        socket.connect(place).await
    };
    connected
        .await
        .map_err(|error| DialError::of(&error, place))
}
