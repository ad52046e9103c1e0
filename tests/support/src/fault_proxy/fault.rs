//! What goes wrong between a client and a server.

use std::time::Duration;

/// What the proxy does to connections. What depends on answers takes the bytes of the server since the
/// client last sent something for an answer. So it is exact without TLS and HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// Each piece arrives this much later, in both directions, and up to `jitter` on top.
    Latency {
        /// For all pieces.
        delay: Duration,
        /// Pieces keep their order.
        jitter: Duration,
    },
    /// New connections are refused, as by a port without a listener. Open ones go on.
    Refuse,
    /// The first packets of new connections are dropped, so that clients wait. Open ones go on.
    Unanswered,
    /// New connections are closed as soon as they are accepted. Open ones go on.
    CloseOnAccept,
    /// New connections are reset as soon as they are accepted. Open ones go on.
    ResetOnAccept,
    /// A connection is reset in place of the byte of an answer that comes after this many of it. With 0 the
    /// server has the request, and the client gets no byte.
    ResetAfter(usize),
    /// What comes of an answer after this many of its bytes is swallowed. A connection that has lost bytes stays
    /// like that.
    SilentAfter(usize),
    /// What arrives is accepted and swallowed, on open connections too. A connection that has lost bytes
    /// stays like that until its client closes it.
    BlackHole,
    /// The server gets the client's bytes, and its answers are swallowed, on open connections too. A
    /// connection that has lost bytes stays like that.
    HalfOpen,
    /// The client's bytes are read at this many a second.
    SlowRead(usize),
    /// A connection is closed once nothing has moved for this long after a piece of an answer, as a server
    /// closes what it kept long enough. A server that pauses within an answer is cut there.
    CloseIdle(Duration),
    /// A connection that has carried an answer is closed at the next request, which is lost.
    CloseKept,
    /// A connection that has carried an answer is reset at the next request, which is lost.
    ResetKept,
}
