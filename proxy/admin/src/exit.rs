//! Exit codes of all binaries: 0, 1 for a failure, 64 for wrong usage (sysexits' `EX_USAGE`).

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use crate::errors;

/// Wrong flags or values.
pub const USAGE: u8 = 64;

/// The exit code for wrong usage.
#[must_use]
pub fn usage() -> ExitCode {
    ExitCode::from(USAGE)
}

/// The exit code of a process that has no log, and says why on standard error.
#[must_use]
pub fn unlogged(error: &dyn Error) -> ExitCode {
    writeln!(std::io::stderr(), "{}", errors::chain(error)).ok();
    ExitCode::FAILURE
}
