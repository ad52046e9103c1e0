//! A proxy in front of a TCP server on loopback that breaks connections in the ways in which networks and
//! servers do. A test switches its fault while connections run.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

mod carry;
mod fault;
mod full;
#[cfg(test)]
mod tests;

pub use fault::Fault;
use full::Full;

/// What the kernel holds of a client's bytes that the proxy has not read. Small, so that
/// [`Fault::SlowRead`] stops the client soon.
const RECEIVE_BUFFER: u32 = 64 << 10;

/// Stands before one server until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    control: Arc<Control>,
    // Holds the tasks: dropping it closes the listener and all connections.
    _tasks: JoinSet<()>,
}

/// What the tasks share with the test.
#[derive(Debug)]
struct Control {
    fault: watch::Sender<Fault>,
    /// Each value resets the connections that were open before it.
    cut: watch::Sender<u64>,
    accepted: AtomicU64,
    open: AtomicU64,
}

/// An open connection, as it is counted.
struct Open(Arc<Control>);

// === impl FaultProxy ===

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 for clients of `server`, a port there.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(server: u16) -> Result<Self> {
        // It never listens, so nothing else takes the port while no one does.
        let place = bind(0)?;
        let port = place.local_addr().context("read the port")?.port();
        let (fault, faults) = watch::channel(Fault::Pass);
        let control = Arc::new(Control {
            fault,
            cut: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let listener = listen(port, 1_024)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(server, place, listener, faults, Arc::clone(&control)));
        Ok(Self {
            port,
            control,
            _tasks: tasks,
        })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does. It holds for new pieces and connections at once; only the port follows
    /// [`Fault::Refuse`] and [`Fault::Unanswered`] a moment later.
    pub fn set(&self, fault: Fault) {
        self.control.fault.send_replace(fault);
    }

    /// Resets all open connections.
    pub fn cut(&self) {
        self.control.cut.send_modify(|cut| *cut += 1);
    }

    /// How many connections it has accepted, whatever became of them.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.control.accepted.load(Ordering::Relaxed)
    }

    /// How many of them are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.control.open.load(Ordering::Relaxed)
    }
}

/// A socket at a port of 127.0.0.1, or at a free one.
fn bind(port: u16) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("make a socket")?;
    // For the one that listens beside the one that keeps the port.
    socket.set_reuseport(true).context("share the port")?;
    socket
        .set_recv_buffer_size(RECEIVE_BUFFER)
        .context("bound the buffer")?;
    socket
        .bind((Ipv4Addr::LOCALHOST, port).into())
        .context("bind")?;
    Ok(socket)
}

fn listen(port: u16, backlog: u32) -> Result<TcpListener> {
    bind(port)?.listen(backlog).context("listen")
}

/// Accepts clients, unless they are refused.
async fn serve(
    server: u16,
    place: TcpSocket,
    listener: TcpListener,
    mut faults: watch::Receiver<Fault>,
    control: Arc<Control>,
) {
    let Ok(port) = place.local_addr().map(|address| address.port()) else {
        return;
    };
    let mut listener = Some(listener);
    let mut full = None;
    let mut connections = JoinSet::new();
    loop {
        let fault = *faults.borrow_and_update();
        if fault != Fault::Unanswered {
            full = None;
        }
        if matches!(fault, Fault::Refuse | Fault::Unanswered) {
            listener = None;
        } else if listener.is_none() {
            listener = listen(port, 1_024).ok();
        }
        if fault == Fault::Unanswered && full.is_none() {
            full = match listen(port, 0) {
                Ok(listener) => Full::new(listener).await.ok(),
                Err(_taken) => None,
            };
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                // The client may have disconnected meanwhile.
                let Ok((client, _)) = accepted else { continue };
                let (faults, control) = (faults.clone(), Arc::clone(&control));
                let open = Open::new(control);
                connections.spawn(connection(client, server, faults, open));
            }
            changed = faults.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one client until it or the server ends, or the fault does.
async fn connection(
    mut client: TcpStream,
    server: u16,
    faults: watch::Receiver<Fault>,
    open: Open,
) {
    let mut cut = open.0.cut.subscribe();
    let fault = *faults.borrow();
    let is_reset = if matches!(fault, Fault::CloseOnAccept | Fault::ResetOnAccept) {
        fault == Fault::ResetOnAccept
    } else {
        tokio::select! {
            ended = carry::join(&mut client, server, faults) => ended == carry::End::Reset,
            _ = cut.changed() => true,
        }
    };
    if is_reset {
        // An error only means that it ends without a reset, which the test sees.
        drop(client.set_zero_linger());
    }
}

// === impl Open ===

impl Open {
    fn new(control: Arc<Control>) -> Self {
        control.accepted.fetch_add(1, Ordering::Relaxed);
        control.open.fetch_add(1, Ordering::Relaxed);
        Self(control)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
