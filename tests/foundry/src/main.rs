//! `foundry-sim`: parse, start, wait for a signal.

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use tests_foundry::{Args, Config, Sim};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let config = match Args::try_parse().and_then(Config::try_from) {
        Ok(config) => config,
        Err(error) => {
            // Nothing is left to report to if the terminal is gone.
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::from(64)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "foundry-sim failed");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(config: &Config) -> anyhow::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let sim = Sim::start(config).with_context(|| format!("listening on {}", config.listen))?;
    tracing::info!(address = %sim.addr(), "foundry-sim listens");
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    Ok(())
}
