//! Settings of the gateway, complete and checked by the binaries, whose arguments hold the defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proxy_admin::output::Output;
use proxy_admin::telemetry::Format;
use proxy_api::Api;
use proxy_core::reach::Reach;
use proxy_ledger::StoreConfig;

use crate::kept::StateKeys;

/// Settings of one gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Whether to join another process that listens there already.
    pub reuse_port: bool,
    /// The operations that it serves, one row each.
    pub apis: &'static [Api],
    /// Threads, each with its own listener, runtime and upstream connections.
    pub threads: usize,
    /// Proxies in front whose entry of `X-Forwarded-For` is believed, for the log; 0: it is ignored.
    pub trusted_hops: usize,
    /// Each connection begins with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Certificates for HTTPS; without them the port speaks plain HTTP.
    pub tls: Option<TlsSource>,
    /// Largest request body, in bytes. It is held in memory for a retry.
    pub max_body: usize,
    /// Largest body of an operation that takes files. What exceeds `max_body` goes on as it comes, once.
    pub max_upload: usize,
    /// Most bytes that the process holds for its clients: connections, requests, bodies, kept answers.
    pub memory_budget: usize,
    /// Output tokens held for a request that sets no bound.
    pub default_output_tokens: u64,
    /// What marks the ids of what backends keep, the same on every replica.
    pub state_keys: StateKeys,
    /// How long running requests may go on after a stop.
    pub drain_grace: Duration,
    /// Subjects of each limit that have a series of their own among the metrics, the most used first.
    pub limit_series: usize,
    /// Where one line per request goes; without it there is none.
    pub access_log: Option<AccessLog>,
    /// The store that replicas share; without one each counts for itself.
    pub store: Option<StoreConfig>,
    /// Which addresses backends may have.
    pub reach: Arc<Reach>,
    /// Where the tokens for backends without keys come from.
    pub identity: proxy_identity::Config,
}

/// The access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// How its lines look.
    pub format: Format,
    /// Where they go.
    pub output: Output,
}

/// Where the certificates for HTTPS are. The first is for clients that ask for a name which none is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSource {
    /// The first; without it the first in the folder, by name.
    pub pair: Option<TlsFiles>,
    /// A folder with a folder for each further one, which holds `tls.crt` and `tls.key`.
    pub folder: Option<PathBuf>,
}

/// PEM files, read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}
