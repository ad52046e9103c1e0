//! `make bench`: what the gateway costs, beside no proxy and a bare hyper proxy, in one run.
//!
//! Everything shares the machine, so throughput is noise: the honest number is CPU per request of
//! the process under test, and its ratio to the bare proxy measured in the same round.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bare;
mod latency;
mod load;
mod process;
mod propagation;
mod quota;
mod requests;
mod simulation;

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measure the gateway on this machine")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU per request and latency: direct, bare hyper, tundish (the default)
    Requests(requests::Args),
    /// From `kubectl apply` to enforcement on two proxies, with 1,000 routes loaded
    Propagation(propagation::Args),
    /// What quotas admit and cost, with and without a store, through failures, beside a peer
    Quota(quota::Args),
    /// Replicas, store and network simulated, with accidents: the bounds of quotas over many seeds
    Simulation(simulation::Args),
    /// The bare proxy itself, as a process of its own
    #[command(hide = true)]
    Bare(bare::Args),
}

#[expect(clippy::print_stderr, reason = "the output of a command")]
fn main() -> ExitCode {
    let done = match Args::parse().command {
        None => requests::run(&requests::Args::default()),
        Some(Command::Requests(args)) => requests::run(&args),
        Some(Command::Propagation(args)) => propagation::run(&args),
        Some(Command::Quota(args)) => quota::run(&args),
        Some(Command::Simulation(args)) => simulation::run(&args),
        Some(Command::Bare(args)) => bare::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
