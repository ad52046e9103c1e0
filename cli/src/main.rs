//! `tundish`: the gateway without a cluster, and tools for its objects.

use std::process::ExitCode;

use clap::Parser;
use cli::args::{Args, Command, KeyCommand};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
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
    let done = match &args.command {
        Command::Run(run) => cli::run::run(run),
        Command::Check(check) => cli::check::check(check),
        Command::Quota(quota) => cli::quota::quota(quota),
        Command::Backends(backends) => cli::backends::backends(backends),
        Command::Explain(explain) => cli::explain::explain(explain),
        Command::Simulate(simulate) => cli::simulate::simulate(simulate),
        Command::Who(who) => cli::who::who(who),
        Command::Ready(ready) => cli::ready::ready(ready),
        Command::Key(KeyCommand::New(new)) => cli::key::new(new),
    };
    match done {
        Ok(code) => code,
        Err(error) => cli::report::failure(&error),
    }
}
