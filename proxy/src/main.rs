//! `tundish-proxy`: serves clients by the tables of the operators.

use std::process::ExitCode;

use clap::Parser;
use proxy::args::ProxyArgs;

fn main() -> ExitCode {
    let args = match ProxyArgs::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let usage = error.use_stderr();
            error.print().ok();
            return if usage {
                proxy_admin::exit::usage()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let log = match args.observability.log() {
        Ok(log) => log,
        Err(error) => return proxy_admin::exit::unlogged(&error),
    };
    match proxy::replica::run(&args, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
