//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use proxy::args::{GatewayArgs, ObservabilityArgs};

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
    Run(RunArgs),
    /// Check a folder of manifests: every mistake with file, line, field and fix
    ///
    /// Exits with 0 if all is well or there are warnings only, with 1 if there are errors.
    Check(CheckArgs),
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
        default_value = "tundish-system"
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
        default_value = "tundish-system"
    )]
    pub namespace: String,
}
