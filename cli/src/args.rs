//! The command line: commands and their flags.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use operator_compile::{HostGrant, InvalidBackendHost, consumer_key, is_label, is_subdomain};
use proxy::args::{AzureLogin, DEFAULT_OUTPUT_TOKENS, GatewayArgs, ObservabilityArgs};
use proxy_admin::http::{Token, TokenError};
use proxy_core::names::Operation;
use proxy_core::route::HostPattern;

use crate::admin::AdminUrl;
use crate::label::{InvalidLabel, Label};
use crate::lifetime::Lifetime;

/// An AI gateway for Microsoft Foundry, without a cluster
#[derive(Debug, Parser)]
#[command(name = "tundish", version, about, max_term_width = 100)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the routes of a folder of manifests and follow its changes
    ///
    /// The folder holds YAML files with AIBackend, AIRoute, AIQuota and Secret objects, as you would
    /// apply them to a cluster. A change on disk takes effect within a second and drops no request; a
    /// removed file two seconds after the last change, so that a checkout takes nothing away on its way.
    /// An emptied or deleted folder changes nothing. Mistakes are logged with file and line; the rest of
    /// the folder stays in effect.
    Run(Box<RunArgs>),
    /// Check a folder of manifests: every mistake with file, line, field and fix
    ///
    /// Exits with 1 if there are errors, else with 0; warnings do not count.
    Check(CheckArgs),
    /// Show the use of every limit by subject, live
    ///
    /// Asks an admin port: a proxy knows its own share, an operator the sum over all replicas. The
    /// largest used share comes first.
    Quota(QuotaArgs),
    /// Show every deployment that a rule uses: whether it takes requests, why not, and since when
    ///
    /// Asks an admin port: a proxy and `tundish run` judge by their own calls, an operator shows how many
    /// proxies have a deployment in, and what the others say. What is out comes first. A folder has no state: it
    /// shows what its rules use.
    Backends(BackendsArgs),
    /// Forecast a request: its rule, its limits, its backends, and the verdict
    ///
    /// Sends nothing and takes no quota. A folder has unused limits; a gateway has its current
    /// counters. Exits with 0 if the request would be admitted, with 1 if it would be refused.
    Explain(ExplainArgs),
    /// Replay an access log against other manifests: which requests would be denied, and why
    ///
    /// Each request asks for what the gateway held for it. Lines of version 1 do not say that: there
    /// it asks for the tokens that it used, the least it could have asked for, and a gateway may deny
    /// more. A request that a limit denied in the log asks for the median of its consumer's other
    /// requests for that model. The replay assumes a host and headers that lead to the logged rule.
    /// Exits with 1 if something cannot be read, else with 0.
    Simulate(SimulateArgs),
    /// Show who called a model, by access logs: the share of each consumer, and the last call
    ///
    /// For the day when a model retires. `kubectl logs -l app.kubernetes.io/component=proxy --tail=-1 | tundish who
    /// --model gpt-4o` reads the logs of all proxies. The name of a deployment shows the calls that it served.
    Who(WhoArgs),
    /// Wait until processes are ready
    ///
    /// Asks each process that the names of the admin ports lead to, such as all pods behind a headless Service.
    /// Exits with 0 once all of them are ready, with 1 if that takes too long.
    Ready(ReadyArgs),
    /// Make keys of consumers
    #[command(subcommand)]
    Key(KeyCommand),
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key: a Secret with its hash on stdout, the key itself on stderr
    ///
    /// `tundish key new search --namespace team --label tundish.dev/keys=chat | kubectl apply -f -`
    /// makes a consumer and shows its key. The key is good in that namespace only, so that a copy of the
    /// Secret is worth nothing elsewhere. A second key of the same --consumer counts with the first, for a
    /// rotation; delete the Secret to revoke its key.
    New(NewKeyArgs),
}

/// Flags of `tundish key new`.
#[derive(clap::Args, Debug)]
pub struct NewKeyArgs {
    /// Name of the Secret, and of the consumer without --consumer
    #[arg(value_name = "NAME", value_parser = object_name)]
    pub name: String,
    /// Namespace of the Secret, which is that of the AIRoute
    #[arg(
        short,
        long,
        env = "TUNDISH_KEY_NAMESPACE",
        value_name = "NAMESPACE",
        value_parser = namespace
    )]
    pub namespace: String,
    /// Label of the Secret, of the secretSelector of the AIRoute; repeatable, in the environment separated
    /// by ','
    #[arg(
        short,
        long = "label",
        env = "TUNDISH_KEY_LABELS",
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        required = true
    )]
    pub labels: Vec<Label>,
    /// Name of the consumer, which several keys may share [default: the name of the Secret]
    #[arg(long, env = "TUNDISH_KEY_CONSUMER", value_name = "NAME", value_parser = consumer)]
    pub consumer: Option<String>,
    /// Attribute of the consumer, for `match` and `per` of an AIQuota and for rules; repeatable, in the
    /// environment separated by ','
    #[arg(
        long = "attribute",
        env = "TUNDISH_KEY_ATTRIBUTES",
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        value_parser = attribute
    )]
    pub attributes: Vec<Label>,
    /// When the key expires: in days or hours (90d, 36h), or at a time of RFC 3339 [default: never]
    #[arg(long, env = "TUNDISH_KEY_EXPIRES", value_name = "WHEN")]
    pub expires: Option<Lifetime>,
    /// New file for the key, in place of stderr; only its owner may read it
    #[arg(long, env = "TUNDISH_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

impl NewKeyArgs {
    /// The consumer's name.
    #[must_use]
    pub fn consumer(&self) -> &str {
        self.consumer.as_deref().unwrap_or(&self.name)
    }
}

/// Flags of `tundish run`.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// Folder with YAML manifests
    #[arg(long, env = "TUNDISH_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// The gateway's own namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// Number of processes that share the limits; each enforces its share
    #[arg(long, env = "TUNDISH_REPLICAS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub replicas: u64,
    /// Your own login takes the place of WorkloadIdentity and ManagedIdentity: tokens come from that
    /// command, az without a value; log in first (`az login`, `azd auth login`)
    #[arg(
        long,
        env = "TUNDISH_AZURE_LOGIN",
        value_name = "COMMAND",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "az"
    )]
    pub azure_login: Option<AzureLogin>,
    /// The gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Admin port and logs
    #[command(flatten)]
    pub observability: ObservabilityArgs,
}

/// Flags of `tundish check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// Folder with YAML and JSON manifests
    #[arg(value_name = "DIR")]
    pub manifests: PathBuf,
    /// Where Secrets are that the folder lacks: a mistake, or made outside (External Secrets, Sealed
    /// Secrets, kubectl create), which gives warnings only
    #[arg(
        long,
        env = "TUNDISH_CHECK_SECRETS",
        value_name = "WHERE",
        default_value = "folder"
    )]
    pub secrets: Secrets,
    /// The gateway's own namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

/// Where Secrets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Secrets {
    /// All in the folder.
    Folder,
    /// Some elsewhere.
    External,
}

/// The gateway's namespaces.
#[derive(clap::Args, Clone, Debug)]
pub struct NamespaceArgs {
    /// Namespace whose AIQuotas without targetRefs apply to every route of the gateway
    #[arg(
        long = "namespace",
        id = "namespace",
        env = "TUNDISH_NAMESPACE",
        value_name = "NAME",
        default_value = operator_compile::INSTALLATION_NAMESPACE
    )]
    pub name: String,

    /// Hosts on which routes of these namespaces may serve anonymous, passThrough and jwt callers, as
    /// PATTERN=NAMESPACE[,NAMESPACE]; repeatable, in the environment separated by ';'
    ///
    /// PATTERN is a host, *.host or *. Needed as soon as the manifests have routes in more than one
    /// namespace, the gateway's own not counted.
    #[arg(
        long = "host-grant",
        env = "TUNDISH_HOST_GRANT",
        value_name = "PATTERN=NAMESPACE",
        value_delimiter = ';'
    )]
    pub host_grants: Vec<HostGrant>,

    /// Host that AIBackends may have, as a name or *.name; repeatable; without one every host
    #[arg(
        long = "backend-host",
        env = "TUNDISH_BACKEND_HOST",
        value_name = "PATTERN",
        value_delimiter = ',',
        value_parser = backend_host
    )]
    pub backend_hosts: Vec<HostPattern>,
}

/// The form of a command's answer.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// Format of the answer
    #[arg(
        short = 'o',
        long = "output",
        id = "output",
        env = "TUNDISH_OUTPUT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub format: Output,
}

/// A format of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables of text.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// The admin port that a command asks without a flag: that of `tundish run` without a flag.
const ADMIN: &str = "http://127.0.0.1:8081";

/// What opens an admin port on another machine.
#[derive(clap::Args, Debug)]
pub struct AdminTokenArgs {
    /// File with the token that an admin port on another machine wants
    #[arg(
        long = "admin-token-file",
        id = "admin_token_file",
        env = "TUNDISH_ADMIN_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub file: Option<PathBuf>,
}

impl AdminTokenArgs {
    /// The token, if a file is named.
    ///
    /// # Errors
    /// The file holds none.
    pub fn token(&self) -> Result<Option<Token>, TokenError> {
        self.file.clone().map(Token::in_file).transpose()
    }
}

/// Flags of `tundish backends`.
#[derive(clap::Args, Debug)]
pub struct BackendsArgs {
    /// Folder with YAML manifests, in place of a gateway: what they declare, without a state
    #[arg(long, env = "TUNDISH_BACKENDS_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Admin port of `tundish run`, a tundish-proxy or a tundish-operator
    #[arg(
        long,
        env = "TUNDISH_ADMIN_URL",
        value_name = "URL",
        default_value = ADMIN
    )]
    pub admin: AdminUrl,
    /// The token of the admin port
    #[command(flatten)]
    pub token: AdminTokenArgs,
    /// The gateway's own namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// The form of the answer
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `tundish ready`.
#[derive(clap::Args, Debug)]
pub struct ReadyArgs {
    /// Admin port of `tundish run`, a tundish-proxy or a tundish-operator; repeatable
    #[arg(
        long,
        env = "TUNDISH_ADMIN_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_value = ADMIN
    )]
    pub admin: Vec<AdminUrl>,
    /// Longest wait in seconds
    #[arg(
        long,
        env = "TUNDISH_READY_WAIT",
        value_name = "SECONDS",
        default_value_t = 60
    )]
    pub wait: u32,
}

/// Flags of `tundish quota`.
#[derive(clap::Args, Debug)]
pub struct QuotaArgs {
    /// Admin port of `tundish run`, a tundish-proxy or a tundish-operator
    #[arg(
        long,
        env = "TUNDISH_ADMIN_URL",
        value_name = "URL",
        default_value = ADMIN
    )]
    pub admin: AdminUrl,
    /// The token of the admin port
    #[command(flatten)]
    pub token: AdminTokenArgs,
    /// The form of the answer
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `tundish explain`.
#[derive(clap::Args, Debug)]
#[command(group(ArgGroup::new("caller").required(true).args(["consumer", "anonymous"])))]
pub struct ExplainArgs {
    /// Model that the client names
    #[arg(long, env = "TUNDISH_EXPLAIN_MODEL", value_name = "MODEL")]
    pub model: String,
    /// Consumer that calls, as NAME or NAMESPACE/NAME, the latter of one with a token; or the fingerprint
    /// key-xxxxxxxx of a credential without a Secret
    #[arg(long, env = "TUNDISH_EXPLAIN_CONSUMER", value_name = "NAME")]
    pub consumer: Option<String>,
    /// Attribute that the consumer's token gives it, as NAME=VALUE; repeatable, in the environment separated
    /// by ';'
    #[arg(
        long = "attribute",
        env = "TUNDISH_EXPLAIN_ATTRIBUTE",
        value_name = "NAME=VALUE",
        value_delimiter = ';',
        requires = "consumer",
        value_parser = claimed
    )]
    pub attributes: Vec<(String, String)>,
    /// Call without a credential
    #[arg(long, env = "TUNDISH_EXPLAIN_ANONYMOUS")]
    pub anonymous: bool,
    /// Tokens of the input
    #[arg(
        long,
        env = "TUNDISH_EXPLAIN_INPUT_TOKENS",
        value_name = "N",
        default_value_t = 1
    )]
    pub input_tokens: u64,
    /// Bound on output tokens that the request sets [default: none; the gateway's default is held]
    #[arg(long, env = "TUNDISH_EXPLAIN_MAX_TOKENS", value_name = "N")]
    pub max_tokens: Option<u64>,
    /// Operation: ChatCompletions, Embeddings, Responses, ...
    #[arg(long, env = "TUNDISH_EXPLAIN_OPERATION", value_name = "NAME", default_value = "ChatCompletions", value_parser = operation)]
    pub operation: Operation,
    /// Host that the client sends
    #[arg(
        long,
        env = "TUNDISH_EXPLAIN_HOST",
        value_name = "HOST",
        default_value = "localhost"
    )]
    pub host: String,
    /// Folder with YAML manifests, in place of a gateway
    #[arg(
        long,
        env = "TUNDISH_EXPLAIN_MANIFESTS",
        value_name = "DIR",
        conflicts_with = "admin"
    )]
    pub manifests: Option<PathBuf>,
    /// Admin port of a gateway
    #[arg(long, env = "TUNDISH_EXPLAIN_ADMIN", value_name = "URL", default_value = ADMIN)]
    pub admin: AdminUrl,
    /// The token of the admin port
    #[command(flatten)]
    pub token: AdminTokenArgs,
    /// The gateway's own namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// Output tokens that a gateway holds for a request without a bound; used with --manifests
    #[arg(
        long,
        env = "TUNDISH_DEFAULT_OUTPUT_TOKENS",
        value_name = "N",
        default_value_t = DEFAULT_OUTPUT_TOKENS
    )]
    pub default_output_tokens: u64,
    /// The form of the answer
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `tundish simulate`.
#[derive(clap::Args, Debug)]
pub struct SimulateArgs {
    /// Access log, written with `--log-format json`; must be a file, because it is read twice
    #[arg(long, env = "TUNDISH_SIMULATE_LOG", value_name = "FILE")]
    pub log: PathBuf,
    /// Folder with YAML manifests
    #[arg(long, env = "TUNDISH_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// The gateway's own namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// Host of every request, which the log lacks [default: one that the logged route serves]
    #[arg(long, env = "TUNDISH_SIMULATE_HOST", value_name = "HOST")]
    pub host: Option<String>,
    /// Number of replicas that shared the traffic; the log is that of one of them
    #[arg(long, env = "TUNDISH_REPLICAS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub replicas: u64,
    /// Number of denials to list
    #[arg(
        long,
        env = "TUNDISH_SIMULATE_DENIALS",
        value_name = "N",
        default_value_t = 20
    )]
    pub denials: usize,
    /// Print the progress to stderr each second
    #[arg(long, env = "TUNDISH_SIMULATE_PROGRESS")]
    pub progress: bool,
    /// The form of the answer
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `tundish who`.
#[derive(clap::Args, Debug)]
pub struct WhoArgs {
    /// Access logs, written with `--log-format json`; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub logs: Vec<PathBuf>,
    /// Model, as clients ask for it, or deployment [default: all]
    #[arg(long, env = "TUNDISH_WHO_MODEL", value_name = "MODEL")]
    pub model: Option<String>,
    /// The form of the answer
    #[command(flatten)]
    pub output: OutputArgs,
}

fn object_name(text: &str) -> Result<String, &'static str> {
    let name = is_subdomain(text).then(|| text.to_owned());
    name.ok_or("a name has lower-case letters, digits and inner '-' or '.'")
}

fn namespace(text: &str) -> Result<String, &'static str> {
    let name = is_label(text).then(|| text.to_owned());
    name.ok_or("a namespace has up to 63 lower-case letters, digits and inner '-'")
}

fn consumer(text: &str) -> Result<String, &'static str> {
    let name = consumer_key::is_consumer(text).then(|| text.to_owned());
    name.ok_or("a consumer has 1 to 253 ASCII characters without spaces")
}

/// Its name becomes the part of a label's name behind our prefix.
fn attribute(text: &str) -> Result<Label, String> {
    let label: Label = text
        .parse()
        .map_err(|error: InvalidLabel| error.to_string())?;
    if label.name.contains('/') {
        return Err("the name of an attribute has no '/'".to_owned());
    }
    Ok(label)
}

fn backend_host(text: &str) -> Result<HostPattern, InvalidBackendHost> {
    operator_compile::backend_host(text)
}

/// An attribute of a token, whose values are not bound as those of labels are.
fn claimed(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn operation(word: &str) -> Result<Operation, String> {
    Operation::parse(word).ok_or_else(|| {
        let known: Vec<&str> = Operation::ALL.map(Operation::as_str).into();
        format!("there are {}", known.join(", "))
    })
}
