//! `tundish-operator`: parse, start, run until a signal, drain.

use std::process::ExitCode;

use clap::Parser as _;
use proxy_admin::exit;
use proxy_admin::telemetry::Log;

mod app;
mod args;
mod checkpoint;
mod config;

fn main() -> ExitCode {
    let config = match args::Args::try_parse().and_then(config::Config::try_from) {
        Ok(config) => config,
        Err(error) => {
            error.print().ok();
            return if error.use_stderr() {
                exit::usage()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let _log = match Log::start(&config.log_level, config.log_format) {
        Ok(log) => log,
        Err(error) => return exit::unlogged(&error),
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "tundish-operator failed");
            ExitCode::FAILURE
        }
    }
}

fn run(config: config::Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(async { app::App::start(config).await?.run().await });
    // A drop would wait for a page that is computed, or a name that is looked up.
    runtime.shutdown_background();
    ended
}
