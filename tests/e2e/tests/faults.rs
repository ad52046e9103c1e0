//! The fault matrix: every kind of failure of a backend beside one that works.

use std::process::Command;

use anyhow::{Result, ensure};
use tests_support::binary;

/// `bench faults` judges each kind itself: lost calls, and tries at what is out.
#[test]
fn callers_notice_no_kind_of_failure_beside_a_backend_that_works() -> Result<()> {
    let mut command = Command::new(binary("bench")?);
    let output = command.args(["faults", "--quick"]).output()?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    Ok(())
}
