//! Exit codes of all binaries: 0, 1 for a failure, 64 for wrong usage (sysexits' `EX_USAGE`).

use std::process::ExitCode;

/// Wrong flags or values.
pub const USAGE: u8 = 64;

/// The exit code for wrong usage.
#[must_use]
pub fn usage() -> ExitCode {
    ExitCode::from(USAGE)
}
