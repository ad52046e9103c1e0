//! Flags of everything that runs a gateway. Defaults live here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser};
use proxy_admin::address;
use proxy_admin::memory::{Size, SizeError, default_budget};
use proxy_admin::telemetry::{Filter, Format, Log, TelemetryError};
use proxy_gateway::{AccessLog, Config, StateKeys, TlsFiles, TlsSource};
use proxy_ledger::{StoreAddress, StoreConfig};
use zeroize::Zeroizing;

mod identity;
mod reach;
mod store;

pub use identity::{AzureLogin, IdentityArgs, IssuerArgs};
pub use reach::ReachArgs;
use store::StoreParser;

/// Default of the output tokens held for a request without a bound of its own: a long paragraph, more than
/// most answers of a chat.
pub const DEFAULT_OUTPUT_TOKENS: u64 = 512;

/// With less than this a few hundred connections are all that fits.
const LEAST_BUDGET: Size = Size(16 << 20);

/// How the gateway listens and what it takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayArgs {
    /// Address that clients connect to: IP:PORT, NAME:PORT, or :PORT for all IPv4 addresses
    #[arg(
        long,
        env = "TUNDISH_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        value_parser = listen
    )]
    pub listen: SocketAddr,
    /// Listen although another gateway of the same user has the port, to take over from it: start the
    /// new one with this flag, then stop the old one. Until then the system splits new connections
    /// between them; without the flag a port that is in use is an error
    #[arg(long, env = "TUNDISH_REUSE_PORT")]
    pub reuse_port: bool,
    /// Threads, each with its own listener and connections; 0 = one per core
    #[arg(long, env = "TUNDISH_THREADS", value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Proxies in front of this one that add to X-Forwarded-For: the client's address in the access log is
    /// that many entries from the right. 0: the address of the connection
    #[arg(
        long,
        env = "TUNDISH_TRUSTED_HOPS",
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(..=16)
    )]
    pub trusted_hops: u8,
    /// Each connection begins with a header of the PROXY protocol, version 2, as balancers of TCP send it; others
    /// are closed. It says the client's address for the access log
    #[arg(long, env = "TUNDISH_PROXY_PROTOCOL")]
    pub proxy_protocol: bool,
    /// PEM file with the certificate chain for HTTPS; read again when it changes. It is also for clients that
    /// ask for a name which no certificate is for, or for none
    #[arg(
        long,
        env = "TUNDISH_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key for HTTPS
    #[arg(
        long,
        env = "TUNDISH_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// Folder with a folder for each further certificate, holding tls.crt and tls.key as a mounted Secret of type
    /// kubernetes.io/tls does; read again when it changes. A client gets the one for the name that it asks
    /// for. Without --tls-cert the first, by the folder's name, is for all other clients
    #[arg(long, env = "TUNDISH_TLS_DIR", value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Largest request body in bytes; bodies are held in memory for a retry
    #[arg(long, env = "TUNDISH_MAX_BODY", value_name = "BYTES", default_value_t = 32 << 20)]
    pub max_body: usize,
    /// Largest request body in bytes of operations that take files (transcriptions, image edits, files): what
    /// exceeds --max-body goes on as it comes, once, if its Content-Length says how much it is
    #[arg(long, env = "TUNDISH_MAX_UPLOAD", value_name = "BYTES", default_value_t = 512 << 20)]
    pub max_upload: usize,
    /// Most memory held for clients: connections, request bodies, answers that are kept for their usage.
    /// In bytes, or with Ki, Mi, Gi [default: 60 % of the cgroup's limit; without one a quarter of the
    /// machine, 1Gi at most]; 16Mi at least
    #[arg(
        long,
        env = "TUNDISH_MEMORY_BUDGET",
        value_name = "SIZE",
        value_parser = memory_budget
    )]
    pub memory_budget: Option<Size>,
    /// Output tokens held for a request that sets no bound of its own, until 20 answers of its rule
    /// and model were seen
    #[arg(
        long,
        env = "TUNDISH_DEFAULT_OUTPUT_TOKENS",
        value_name = "N",
        default_value_t = DEFAULT_OUTPUT_TOKENS
    )]
    pub default_output_tokens: u64,
    /// File with the keys that mark the ids of stored responses and conversations, one on a line, of 32
    /// characters or more; make one with `openssl rand -hex 32`. The first one marks, all are known, so
    /// put a new one in front. All replicas need the same file. Without it ids are known until this
    /// process ends
    #[arg(
        long,
        env = "TUNDISH_STATE_KEYS",
        value_name = "FILE",
        value_parser = state_keys
    )]
    pub state_keys: Option<StateKeys>,
    /// Seconds after SIGTERM in which connections are still accepted and served, while /readyz and /healthz say 503:
    /// longer than balancers take to notice. SIGINT skips it, and so does a second signal
    #[arg(
        long,
        env = "TUNDISH_DRAIN_DELAY",
        value_name = "SECONDS",
        default_value_t = 5
    )]
    pub drain_delay: u64,
    /// Seconds that running requests may go on once no connection is accepted any more
    #[arg(
        long,
        env = "TUNDISH_DRAIN_GRACE",
        value_name = "SECONDS",
        default_value_t = 300
    )]
    pub drain_grace: u64,
    /// Subjects of each limit (consumers, mostly) that get a series of their own among the metrics, the
    /// most used first
    #[arg(
        long,
        env = "TUNDISH_LIMIT_SERIES",
        value_name = "N",
        default_value_t = 0
    )]
    pub limit_series: usize,
    /// Write no access log
    #[arg(long, env = "TUNDISH_NO_ACCESS_LOG")]
    pub no_access_log: bool,
    /// The store that counts for all replicas of this gateway
    #[command(flatten)]
    pub quota_store: QuotaStoreArgs,
    /// Where backends may be
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Who the gateway is at its backends
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Where the keys of callers' issuers come from
    #[command(flatten)]
    pub issuers: IssuerArgs,
}

/// The store that replicas share.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Quota store")]
pub struct QuotaStoreArgs {
    /// Redis or Valkey that counts for all replicas: redis://[user:password@]host:port[/db],
    /// rediss:// for TLS, several hosts with commas for a cluster, or
    /// redis+sentinel://[user:password@]host:port,.../primary[/db]; none: each replica counts alone
    #[arg(
        long = "quota-store",
        env = "TUNDISH_QUOTA_STORE",
        value_name = "URL",
        hide_env_values = true,
        value_parser = StoreParser
    )]
    pub url: Option<StoreAddress>,
    /// PEM file with the CA of the store's certificate; without it the public ones are trusted
    #[arg(
        long = "quota-store-ca",
        env = "TUNDISH_QUOTA_STORE_CA",
        value_name = "FILE",
        requires = "url"
    )]
    pub ca: Option<PathBuf>,
    /// What the keys in the store begin with: gateways that share a database need different ones
    #[arg(
        long = "quota-store-prefix",
        env = "TUNDISH_QUOTA_STORE_PREFIX",
        value_name = "TEXT",
        default_value = "tundish",
        value_parser = prefix
    )]
    pub prefix: String,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    address::parse(text, 8080)
}

fn admin(text: &str) -> Result<SocketAddr, String> {
    address::parse(text, 8081)
}

fn memory_budget(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: SizeError| error.to_string())?;
    if size < LEAST_BUDGET {
        return Err(format!("at least {LEAST_BUDGET} are needed"));
    }
    Ok(size)
}

fn state_keys(file: &str) -> Result<StateKeys, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let text = Zeroizing::new(text);
    StateKeys::read(&text).map_err(|error| error.to_string())
}

fn prefix(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if text.is_empty() || text.len() > 128 || !text.chars().all(good) {
        return Err("use 1 to 128 letters, digits, and - _ . / :".to_owned());
    }
    Ok(text.to_owned())
}

impl GatewayArgs {
    /// How long the gateway serves on after SIGTERM.
    #[must_use]
    pub const fn drain_delay(&self) -> Duration {
        Duration::from_secs(self.drain_delay)
    }

    /// The settings of the gateway. The shared store knows it as `replica`; its access log is a part of
    /// `log`, whose filter may leave it out.
    #[must_use]
    pub fn config(&self, replica: impl Into<String>, log: &Log) -> Config {
        let QuotaStoreArgs { url, ca, prefix } = self.quota_store.clone();
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let is_logged = tracing::enabled!(target: "access", tracing::Level::INFO);
        let pair = self.tls_cert.clone().zip(self.tls_key.clone());
        let tls = TlsSource {
            pair: pair.map(|(certificate, key)| TlsFiles { certificate, key }),
            folder: self.tls_dir.clone(),
        };
        Config {
            listen: self.listen,
            reuse_port: self.reuse_port,
            apis: proxy_api::ROWS,
            threads: if self.threads == 0 {
                cores()
            } else {
                self.threads
            },
            trusted_hops: self.trusted_hops.into(),
            proxy_protocol: self.proxy_protocol,
            tls: (tls.pair.is_some() || tls.folder.is_some()).then_some(tls),
            max_body: self.max_body,
            max_upload: self.max_upload,
            memory_budget: self
                .memory_budget
                .map_or_else(default_budget, |Size(bytes)| bytes),
            default_output_tokens: self.default_output_tokens,
            state_keys: self
                .state_keys
                .clone()
                .unwrap_or_else(StateKeys::of_this_process),
            drain_grace: Duration::from_secs(self.drain_grace),
            limit_series: self.limit_series,
            access_log: (is_logged && !self.no_access_log).then(|| AccessLog {
                format: log.format(),
                output: log.output(),
            }),
            store: url.map(|address| StoreConfig {
                address,
                ca_file: ca,
                prefix,
                replica: replica.into(),
            }),
            reach: Arc::new(self.reach.reach()),
            identity: self.identity.config(&self.issuers),
        }
    }
}

/// Where the process itself is looked at, and how it logs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Observability")]
pub struct ObservabilityArgs {
    /// Address of /livez, /readyz, /metrics, /quota and /explain; written as that of --listen
    #[arg(
        long,
        env = "TUNDISH_ADMIN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8081",
        value_parser = admin
    )]
    pub admin: SocketAddr,
    /// File with the token that opens /quota and /explain to other machines, sent as `Authorization:
    /// Bearer TOKEN`; read again for every request. Without it they are for this machine only
    #[arg(long, env = "TUNDISH_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// What is logged: off, error, warn, info, debug or trace, and TARGET=LEVEL for what differs, such
    /// as warn,access=info
    #[arg(
        long,
        env = "TUNDISH_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log_level: Filter,
    /// json or text [default: text on a terminal, else json]
    #[arg(long, env = "TUNDISH_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<Format>,
}

impl ObservabilityArgs {
    /// Starts the log of the process.
    ///
    /// # Errors
    /// See [`Log::start`].
    pub fn log(&self) -> Result<Log, TelemetryError> {
        let format = self.log_format.unwrap_or_else(Format::of_output);
        Log::start(&self.log_level, format)
    }
}

/// A replica of the gateway: serves clients by the tables of Tundish operators
#[derive(Clone, Debug, Parser)]
#[command(name = "tundish-proxy", version, about, max_term_width = 100)]
pub struct ProxyArgs {
    /// Operators to follow, as https://HOST:PORT; a name with several addresses is followed at each
    #[arg(
        long = "operator",
        env = "TUNDISH_OPERATORS",
        value_name = "URL",
        required = true,
        value_delimiter = ','
    )]
    pub operators: Vec<String>,
    /// PEM file with the CA of the operators; read again for every connection
    #[arg(long, env = "TUNDISH_OPERATOR_CA", value_name = "FILE")]
    pub operator_ca: Option<PathBuf>,
    /// Allow http:// for the operators: for tests on one machine
    #[arg(long, env = "TUNDISH_OPERATOR_PLAINTEXT")]
    pub operator_plaintext: bool,
    /// File with the ServiceAccount token to show to the operators; read again for every request
    #[arg(long, env = "TUNDISH_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Identity of this replica: the UID of its pod
    #[arg(long, env = "TUNDISH_REPLICA", value_name = "ID")]
    pub replica: String,
    /// File in which the last good table is kept, to serve after a restart without an operator
    #[arg(long, env = "TUNDISH_LAST_GOOD", value_name = "FILE")]
    pub last_good: Option<PathBuf>,
    /// The file of --last-good is on a volume in memory and may hold the backends' credentials
    #[arg(long, env = "TUNDISH_LAST_GOOD_IN_MEMORY", requires = "last_good")]
    pub last_good_in_memory: bool,
    /// Folder with the snapshot that the operators stored in Secrets, as the chart mounts them: what this
    /// replica serves if it starts while no operator answers, and --last-good has nothing newer
    #[arg(long, env = "TUNDISH_SNAPSHOT_DIR", value_name = "DIR")]
    pub snapshot_dir: Option<PathBuf>,
    /// Seconds without an operator after which this replica is not ready, so that no client gets by a key that
    /// was revoked meanwhile; without it a replica serves its last table for as long as it runs
    #[arg(
        long,
        env = "TUNDISH_MAX_TABLE_AGE",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(30..)
    )]
    pub max_table_age: Option<u64>,
    /// The gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Admin port and logs
    #[command(flatten)]
    pub observability: ObservabilityArgs,
}
