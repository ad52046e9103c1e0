//! What is told to the person at the terminal.

use std::process::ExitCode;

use crate::manifests::Finding;

/// Prints findings, one a line.
#[expect(clippy::print_stdout, reason = "the output of a command")]
pub fn findings(findings: &[Finding]) {
    for finding in findings {
        println!("{finding}");
    }
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "the output of a command")]
pub fn line(text: &str) {
    println!("{text}");
}

/// Tells why a command failed, with all causes.
#[must_use]
#[expect(clippy::print_stderr, reason = "the output of a command")]
pub fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("tundish: {error:#}");
    ExitCode::FAILURE
}
