//! `tundish ready`, beside a gateway that starts, serves, and is gone.

use std::process::{Command, Output};

use anyhow::{Context, Result};
use tests_support::{Quickstart, binary, free_port};

fn ready(admin: &str, wait: &str) -> Result<Output> {
    let mut command = Command::new(binary("tundish")?);
    command.args(["ready", "--admin", admin, "--wait", wait]);
    command.output().context("start tundish")
}

#[tokio::test]
async fn it_ends_well_once_all_are_ready_and_else_says_which_is_not() -> Result<()> {
    let quickstart = Quickstart::start(&[]).await?;
    let done = ready(&quickstart.admin, "20")?;
    assert!(done.status.success(), "{done:?}");
    let told = String::from_utf8(done.stdout)?;
    assert_eq!(told, format!("{} is ready\n", quickstart.admin));

    let unused = format!("http://127.0.0.1:{}", free_port()?);
    let both = format!("{},{unused}", quickstart.admin);
    let failed = ready(&both, "1")?;
    assert_eq!(failed.status.code(), Some(1));
    let told = String::from_utf8(failed.stderr)?;
    assert!(told.contains(&format!("{unused} is not ready")), "{told}");
    Ok(())
}
