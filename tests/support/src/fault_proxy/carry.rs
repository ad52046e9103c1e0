//! The bytes of one connection through the proxy, as the fault of the moment lets them go.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::fault::Fault;

/// A usual read of a socket on loopback.
const PIECE: usize = 16 << 10;
/// How many pieces are under way at once, if they arrive late.
const UNDER_WAY: usize = 64;
/// How often a slow reader reads.
const SLOW_STEP: Duration = Duration::from_millis(50);

/// How the client's connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Close,
    Reset,
}

/// A connection, for both directions.
struct Link {
    faults: watch::Receiver<Fault>,
    seen: Mutex<Seen>,
}

/// What was seen of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The bytes of the server since the client last sent something.
    answer: usize,
    /// It has carried a piece of an answer.
    is_kept: bool,
    /// Bytes of the client are lost: none that come later make sense.
    lost_request: bool,
    /// The same for bytes of the server.
    lost_answer: bool,
}

/// Where a piece comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

/// Bytes that go on.
struct Piece {
    /// When they arrive.
    due: Instant,
    bytes: Bytes,
    /// The connection ends behind them.
    end: Option<End>,
}

/// Joins a client and the server until one of them breaks its connection, both have ended it, or the fault
/// does.
pub(super) async fn join(
    client: &mut TcpStream,
    server: u16,
    faults: watch::Receiver<Fault>,
) -> End {
    let link = Link {
        faults,
        seen: Mutex::default(),
    };
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
        return End::Reset;
    };
    // Coalescing would delay bytes.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let ended = tokio::try_join!(
        link.carry(From::Client, from_client, to_server),
        link.carry(From::Server, from_server, to_client),
    );
    ended.err().unwrap_or(End::Close)
}

// === impl Link ===

impl Link {
    /// Carries the bytes of one direction to their end, and the end too.
    async fn carry(
        &self,
        from: From,
        mut source: impl AsyncRead + Unpin,
        mut sink: impl AsyncWrite + Unpin,
    ) -> Result<(), End> {
        let (sender, mut receiver) = mpsc::channel::<Piece>(UNDER_WAY);
        let read = async move {
            loop {
                let piece = match self.read(from, &mut source).await {
                    Ok(None) => break,
                    Ok(Some(bytes)) => self.judge(from, bytes),
                    // Behind what is still under way.
                    Err(end) => Piece {
                        due: Instant::now(),
                        bytes: Bytes::new(),
                        end: Some(end),
                    },
                };
                // The other half is gone if its side of the connection is: the end of all.
                sender.send(piece).await.map_err(|_closed| End::Close)?;
            }
            match from {
                From::Client if self.has_lost() => Err(End::Close),
                // The end is swallowed, too.
                From::Server if self.has_lost() => std::future::pending().await,
                From::Client | From::Server => Ok(()),
            }
        };
        let write = async move {
            while let Some(piece) = receiver.recv().await {
                tokio::time::sleep_until(piece.due).await;
                let written = sink.write_all(&piece.bytes).await;
                written.map_err(|_broken| End::Close)?;
                piece.end.map_or(Ok(()), Err)?;
            }
            let closed = sink.shutdown().await;
            closed.map_err(|_broken| End::Close)
        };
        tokio::try_join!(read, write).map(|_| ())
    }

    /// The next piece; `None` at the end of its sender.
    async fn read(
        &self,
        from: From,
        source: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Bytes>, End> {
        let mut faults = self.faults.clone();
        let mut piece = BytesMut::with_capacity(PIECE);
        loop {
            let fault = *faults.borrow_and_update();
            let mut most = PIECE;
            if let Fault::SlowRead(speed) = fault
                && from == From::Client
            {
                tokio::time::sleep(SLOW_STEP).await;
                most = most.min(speed / 20).max(1);
            }
            let mut idle = None;
            if let Fault::CloseIdle(after) = fault
                && from == From::Server
                && self.is_idle()
            {
                idle = Some(after);
            }
            let waited = async {
                match idle {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            let mut limited = (&mut *source).take(u64::try_from(most).unwrap_or(u64::MAX));
            tokio::select! {
                read = limited.read_buf(&mut piece) => return match read {
                    Ok(0) => Ok(None),
                    Ok(_) => Ok(Some(piece.freeze())),
                    Err(_reset) if self.has_lost() => Ok(None),
                    Err(_reset) => Err(End::Reset),
                },
                // The client may have begun another exchange meanwhile.
                () = waited => if self.is_idle() { return Err(End::Close) },
                _ = faults.changed() => {}
            }
        }
    }

    /// What becomes of bytes that are here now.
    fn judge(&self, from: From, bytes: Bytes) -> Piece {
        let fault = *self.faults.borrow();
        let mut seen = self.seen.lock();
        seen.lost_request |= fault == Fault::BlackHole;
        seen.lost_answer |= matches!(fault, Fault::BlackHole | Fault::HalfOpen);
        let late = if let Fault::Latency { delay, jitter } = fault {
            delay + jitter.mul_f64(chance())
        } else {
            Duration::ZERO
        };
        let mut piece = Piece {
            due: Instant::now() + late,
            bytes,
            end: None,
        };
        match (from, fault) {
            (From::Client, _) if seen.lost_request => piece.bytes = Bytes::new(),
            (From::Server, _) if seen.lost_answer => piece.bytes = Bytes::new(),
            (From::Client, Fault::CloseKept) if seen.is_kept => {
                (piece.bytes, piece.end) = (Bytes::new(), Some(End::Close));
            }
            (From::Client, Fault::ResetKept) if seen.is_kept => {
                (piece.bytes, piece.end) = (Bytes::new(), Some(End::Reset));
            }
            (From::Client, _) => seen.answer = 0,
            (From::Server, _) => {
                let before = seen.answer;
                seen.answer += piece.bytes.len();
                seen.is_kept = true;
                if let Fault::ResetAfter(most) = fault
                    && seen.answer > most
                {
                    piece.bytes.truncate(most.saturating_sub(before));
                    piece.end = Some(End::Reset);
                }
                if let Fault::SilentAfter(most) = fault
                    && seen.answer > most
                {
                    piece.bytes.truncate(most.saturating_sub(before));
                    seen.lost_answer = true;
                }
            }
        }
        piece
    }

    /// An answer came last.
    fn is_idle(&self) -> bool {
        self.seen.lock().answer > 0
    }

    fn has_lost(&self) -> bool {
        let seen = self.seen.lock();
        seen.lost_request || seen.lost_answer
    }
}

/// A random number from 0 to 1: each state of the standard hasher has a seed of its own.
fn chance() -> f64 {
    let drawn = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(u32::MAX);
    f64::from(drawn) / f64::from(u32::MAX)
}
