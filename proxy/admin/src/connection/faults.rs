//! What goes wrong on connections of HTTP/2: streams and connections that end with an error code.

use std::net::IpAddr;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracing::debug;

/// Counts errors of HTTP/2, by what ended and who ended it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Faults(Family<Labels, Counter>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    sender: &'static str,
    ends: &'static str,
    error: &'static str,
}

/// What is there from the beginning, so that the first one of them shows as a growth.
const USUAL: [(Sender, Ends, &str); 4] = [
    (Sender::Client, Ends::Stream, "cancel"),
    (Sender::Server, Ends::Stream, "protocol_error"),
    (Sender::Server, Ends::Connection, "protocol_error"),
    (Sender::Server, Ends::Connection, "enhance_your_calm"),
];

/// Who ends a stream or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// By RST_STREAM.
    Stream,
    /// By GOAWAY.
    Connection,
}

// === impl Faults ===

impl Faults {
    /// Registers the counter.
    pub fn register(registry: &mut Registry) -> Self {
        let faults = Self::default();
        registry.register(
            "downstream_http2_errors",
            "Streams of clients on HTTP/2 that were reset, and connections that ended by GOAWAY, for another \
             reason than no_error: by sender (client, server), by what ends (stream, connection) and by error \
             (RFC 9113, 7)",
            faults.0.clone(),
        );
        for (sender, ends, error) in USUAL {
            let labels = Labels::new(sender, ends, error);
            faults.0.get_or_create_owned(&labels);
        }
        faults
    }

    /// Counts an error, and says it at debug level.
    pub(super) fn count(
        &self,
        sender: Sender,
        ends: Ends,
        error: &'static str,
        peer: Option<IpAddr>,
    ) {
        let labels = Labels::new(sender, ends, error);
        debug!(
            peer = peer.map(tracing::field::display),
            sender = labels.sender,
            ends = labels.ends,
            error,
            "error of HTTP/2"
        );
        self.0.get_or_create_owned(&labels).inc();
    }
}

// === impl Labels ===

impl Labels {
    const fn new(sender: Sender, ends: Ends, error: &'static str) -> Self {
        Self {
            sender: sender.as_str(),
            ends: ends.as_str(),
            error,
        }
    }
}

// === impl Sender ===

impl Sender {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

// === impl Ends ===

impl Ends {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Connection => "connection",
        }
    }
}
