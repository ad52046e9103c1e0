//! What can be said on the command line.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use proxy::args::{DEFAULT_OUTPUT_TOKENS, GatewayArgs, ObservabilityArgs};
use proxy_core::names::Operation;

use crate::admin::AdminUrl;

/// An AI gateway for Microsoft Foundry, without a cluster
#[derive(Debug, Parser)]
#[command(name = "tundish", version, about, max_term_width = 100)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the routes of a folder of manifests, and follow its changes
    ///
    /// The folder holds YAML files with AIBackend, AIRoute, AIQuota and Secret objects, as they
    /// would be applied to a cluster. A change on disk is in force within a second and drops no
    /// request. What is wrong is logged with its file and line, and leaves the rest in force.
    Run(Box<RunArgs>),
    /// Check a folder of manifests: every mistake with file, line, field and fix
    ///
    /// Exits with 0 if all is well or there are warnings only, with 1 if there are errors.
    Check(CheckArgs),
    /// Show who has used how much of which limit, live
    ///
    /// Asks the admin port of one gateway process. Sorted by the share that is used.
    Quota(QuotaArgs),
    /// Tell what would become of a request: its rule, its limits, its backends, and the verdict
    ///
    /// A forecast: nothing is sent and no quota is taken. With a folder every limit is unused; with
    /// a gateway its counters are asked. Exits with 0 if the request would be admitted, with 1 if it
    /// would be refused.
    Explain(ExplainArgs),
    /// Replay an access log against other manifests: who would be denied, when, by which limit
    ///
    /// The log has neither max_tokens nor estimates, so each request asks for the tokens that it
    /// used, which is the least that it could have asked for: a gateway denies these and maybe
    /// more. Requests that a limit denied in the log ask for the median of their consumer's others
    /// on that model. Host and headers are not in the log either: those are assumed with which the
    /// logged rule is found. Exits with 0, whoever is denied; with 1 if something cannot be read.
    Simulate(SimulateArgs),
}

/// Flags of `tundish run`.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// Folder with YAML manifests
    #[arg(long, env = "TUNDISH_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// Namespace whose AIQuotas without targetRefs bind every route of the gateway
    #[arg(
        long,
        env = "TUNDISH_NAMESPACE",
        value_name = "NAME",
        default_value = operator_compile::INSTALLATION_NAMESPACE
    )]
    pub namespace: String,
    /// How many such processes share the limits; each enforces its part
    #[arg(long, env = "TUNDISH_REPLICAS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub replicas: u64,
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
    /// Folder with YAML manifests
    #[arg(value_name = "DIR")]
    pub manifests: PathBuf,
    /// Namespace whose AIQuotas without targetRefs bind every route of the gateway
    #[arg(
        long,
        env = "TUNDISH_NAMESPACE",
        value_name = "NAME",
        default_value = operator_compile::INSTALLATION_NAMESPACE
    )]
    pub namespace: String,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    #[default]
    Text,
    /// JSON for machines.
    Json,
}

/// Flags of `tundish quota`.
#[derive(clap::Args, Debug)]
pub struct QuotaArgs {
    /// Admin port of a gateway: of tundish run, or of one tundish-proxy
    #[arg(
        long,
        env = "TUNDISH_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8081"
    )]
    pub admin: AdminUrl,
    /// How to answer
    #[arg(
        short,
        long,
        env = "TUNDISH_OUTPUT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub output: Output,
}

/// Flags of `tundish explain`.
#[derive(clap::Args, Debug)]
#[command(group(ArgGroup::new("who").required(true).args(["consumer", "anonymous"])))]
#[command(group(ArgGroup::new("whom").required(true).args(["manifests", "admin"])))]
pub struct ExplainArgs {
    /// Model that the client names
    #[arg(long, env = "TUNDISH_EXPLAIN_MODEL", value_name = "MODEL")]
    pub model: String,
    /// Consumer that calls, as NAME or NAMESPACE/NAME; or the fingerprint key-xxxxxxxx of a
    /// credential that no Secret names
    #[arg(long, env = "TUNDISH_EXPLAIN_CONSUMER", value_name = "NAME")]
    pub consumer: Option<String>,
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
    /// The request's bound on output tokens; the gateway's default if it sets none
    #[arg(long, env = "TUNDISH_EXPLAIN_MAX_TOKENS", value_name = "N")]
    pub max_tokens: Option<u64>,
    /// Operation: ChatCompletions, Embeddings, Responses, ...
    #[arg(long, env = "TUNDISH_EXPLAIN_OPERATION", value_name = "NAME", default_value = "ChatCompletions", value_parser = operation)]
    pub operation: Operation,
    /// Host that the client asks for
    #[arg(
        long,
        env = "TUNDISH_EXPLAIN_HOST",
        value_name = "HOST",
        default_value = "localhost"
    )]
    pub host: String,
    /// Folder with YAML manifests
    #[arg(long, env = "TUNDISH_EXPLAIN_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Admin port of a gateway
    #[arg(long, env = "TUNDISH_EXPLAIN_ADMIN", value_name = "URL")]
    pub admin: Option<AdminUrl>,
    /// Namespace whose AIQuotas without targetRefs bind every route of the gateway
    #[arg(
        long,
        env = "TUNDISH_NAMESPACE",
        value_name = "NAME",
        default_value = operator_compile::INSTALLATION_NAMESPACE
    )]
    pub namespace: String,
    /// Output tokens that a gateway of the folder would hold for a request without a bound
    #[arg(
        long,
        env = "TUNDISH_DEFAULT_OUTPUT_TOKENS",
        value_name = "N",
        default_value_t = DEFAULT_OUTPUT_TOKENS
    )]
    pub default_output_tokens: u64,
    /// How to answer
    #[arg(
        short,
        long,
        env = "TUNDISH_OUTPUT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub output: Output,
}

/// Flags of `tundish simulate`.
#[derive(clap::Args, Debug)]
pub struct SimulateArgs {
    /// Access log, as written with `--log-format json`; a file, since it is read twice
    #[arg(long, env = "TUNDISH_SIMULATE_LOG", value_name = "FILE")]
    pub log: PathBuf,
    /// Folder with YAML manifests
    #[arg(long, env = "TUNDISH_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// Namespace whose AIQuotas without targetRefs bind every route of the gateway
    #[arg(
        long,
        env = "TUNDISH_NAMESPACE",
        value_name = "NAME",
        default_value = operator_compile::INSTALLATION_NAMESPACE
    )]
    pub namespace: String,
    /// Host of every request, which the log lacks [default: one that the logged route serves]
    #[arg(long, env = "TUNDISH_SIMULATE_HOST", value_name = "HOST")]
    pub host: Option<String>,
    /// The log is that of one of so many replicas, each of which enforces its part
    #[arg(long, env = "TUNDISH_REPLICAS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub replicas: u64,
    /// How many denials to list
    #[arg(
        long,
        env = "TUNDISH_SIMULATE_DENIALS",
        value_name = "N",
        default_value_t = 20
    )]
    pub denials: usize,
    /// Tell on stderr how far it is, each second
    #[arg(long, env = "TUNDISH_SIMULATE_PROGRESS")]
    pub progress: bool,
    /// How to answer
    #[arg(
        short,
        long,
        env = "TUNDISH_OUTPUT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub output: Output,
}

fn operation(word: &str) -> Result<Operation, String> {
    Operation::parse(word).ok_or_else(|| {
        let known: Vec<&str> = Operation::ALL.map(Operation::as_str).into();
        format!("there are {}", known.join(", "))
    })
}
