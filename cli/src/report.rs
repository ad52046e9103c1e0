//! Output to the terminal.

use std::process::ExitCode;

use crate::manifests::Finding;

/// Prints findings, one per line.
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
