//! Output to the terminal.

use std::io::Write as _;
use std::process::ExitCode;

use crate::manifests::Finding;

/// Prints findings, one per line.
pub fn findings(findings: &[Finding]) {
    for finding in findings {
        line(&finding.to_string());
    }
}

/// Prints a line. A reader that has seen enough, such as `head`, is no error.
pub fn line(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Prints a line to stderr, beside the command's answer.
#[expect(clippy::print_stderr, reason = "the output of a command")]
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints why a command failed, with all causes.
#[must_use]
#[expect(clippy::print_stderr, reason = "the output of a command")]
pub fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("tundish: {error:#}");
    ExitCode::FAILURE
}
