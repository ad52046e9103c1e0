//! What a listener hands over.

use std::fmt;
use std::net::IpAddr;

use tokio::net::TcpStream;

use crate::memory::Room;

/// A connection that a listener has accepted.
pub struct Accepted<I> {
    /// The stream itself, with or without TLS.
    pub stream: I,
    /// The socket below it, if the kernel has one.
    pub socket: fn(&I) -> Option<&TcpStream>,
    /// The other end, for the log.
    pub peer: Option<IpAddr>,
    /// What it holds of a budget.
    pub room: Option<Room>,
}

impl<I> Accepted<I> {
    /// A stream whose socket is not looked at, and which holds nothing of a budget.
    pub fn unbudgeted(stream: I) -> Self {
        Self {
            stream,
            socket: |_stream| None,
            peer: None,
            room: None,
        }
    }
}

impl<I> fmt::Debug for Accepted<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}
