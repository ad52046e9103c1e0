//! The simulated Foundry, asked by the official SDKs without a gateway between: their strict parsers
//! accept all that it says.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests_foundry::{Config, Sim};
use tests_support::{paths, workspace};

/// More time than any of the clients needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A simulator with its usual deployments, and one more.
fn sim(more: &str) -> Result<Sim> {
    let mut config = Config {
        // A client on a busy machine still cancels in time.
        background_time: Duration::from_secs(2),
        ..Config::default()
    };
    config.deployments.push(more.parse()?);
    Ok(Sim::start(&config)?)
}

/// Runs a client of `tests/e2e/clients` to its end; its own checks decide.
async fn run(program: &Path, script: &str, sim: &Sim) -> Result<()> {
    let script = workspace().join("tests/e2e/clients").join(script);
    let mut command = tokio::process::Command::new(program);
    command.current_dir(paths::clients()?).arg(script);
    command.args([sim.url().as_str(), "sim-key"]);
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await??;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let passed: Vec<String> = serde_json::from_slice(&output.stdout)?;
    ensure!(!passed.is_empty(), "nothing was checked");
    Ok(())
}

#[tokio::test]
async fn the_python_sdk_of_openai_understands_the_simulator() -> Result<()> {
    let sim = sim("thinker=gpt-5-2025-08-07,reasoning=7,cached=5")?;
    let python = paths::clients()?.join("venv/bin/python");
    run(&python, "foundry_openai.py", &sim).await
}

#[tokio::test]
async fn the_node_sdk_of_openai_understands_the_simulator() -> Result<()> {
    let sim = sim("thinker=gpt-5-2025-08-07,reasoning=7,cached=5")?;
    run(Path::new("node"), "foundry_openai.mjs", &sim).await
}

#[tokio::test]
async fn the_python_sdk_of_anthropic_understands_the_simulator() -> Result<()> {
    let sim = sim("thinker=claude-sonnet-5-5,reasoning=7,cached=5,cache_write=2")?;
    let python = paths::clients()?.join("venv/bin/python");
    run(&python, "foundry_anthropic.py", &sim).await
}
