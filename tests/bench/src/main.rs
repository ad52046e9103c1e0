//! The benchmarks: what the gateway costs beside other proxies, in CPU and in instructions, how fast a
//! change arrives, and what quotas admit. Real processes on one machine; nothing is simulated except
//! where the command says so.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod backend;
mod balance;
mod bare;
mod certificate;
mod faults;
mod figures;
mod handshakes;
mod instructions;
mod latency;
mod load;
mod overload;
mod page;
mod process;
mod propagation;
mod quota;
mod requests;
mod scale;
mod simulation;
mod subject;

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measure the gateway on this machine")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU and latency of requests and events, memory, beside bare hyper, nginx and HAProxy
    Requests(requests::Args),
    /// CPU of TLS handshakes, full and resumed, beside nginx
    Handshakes(handshakes::Args),
    /// Instructions, allocations, clock reads and system calls per request, against the baseline
    Instructions(instructions::Args),
    /// A backend that fails beside one that works: what callers notice, by kind of failure
    Faults(faults::Args),
    /// The balancer simulated: shares, the return after a failure, what spills off a provisioned deployment
    Balance(balance::Args),
    /// More requests than the gateway has CPU for: goodput, refusals, and how soon all is well again
    Overload(overload::Args),
    /// From `kubectl apply` to enforcement on two proxies, with 1,000 routes loaded
    Propagation(propagation::Args),
    /// What one changed route costs at each step, with 5,000 routes and 20,000 keys
    Scale(scale::Args),
    /// What quotas admit and cost, with and without a store, through failures, beside a peer
    Quota(quota::Args),
    /// Replicas, store and network simulated, with accidents: the bounds of quotas over many seeds
    Simulation(simulation::Args),
    /// The bare proxy itself, as a process of its own
    #[command(hide = true)]
    Bare(bare::Args),
    /// The backend that answers from memory, as a process of its own
    #[command(hide = true)]
    Backend(backend::Args),
}

#[expect(clippy::print_stderr, reason = "the output of a command")]
fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Requests(args) => requests::run(&args).map(success),
        Command::Handshakes(args) => handshakes::run(&args).map(success),
        Command::Instructions(args) => instructions::run(&args),
        Command::Faults(args) => faults::run(&args).map(success),
        Command::Balance(args) => balance::run(&args).map(success),
        Command::Overload(args) => overload::run(&args).map(success),
        Command::Propagation(args) => propagation::run(&args).map(success),
        Command::Scale(args) => scale::run(&args).map(success),
        Command::Quota(args) => quota::run(&args).map(success),
        Command::Simulation(args) => simulation::run(&args).map(success),
        Command::Bare(args) => bare::run(&args).map(success),
        Command::Backend(args) => backend::run(&args).map(success),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
