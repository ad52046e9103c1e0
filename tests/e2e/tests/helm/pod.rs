//! The command of the pod that `helm test` starts, as a process beside a real gateway.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tests_support::{Quickstart, binary, free_port};

use crate::program::Helm;

/// The Services whose pods it waits for, and which the chart has by the same values.
const SERVICES: [&str; 2] = ["tundish-operator-metrics", "tundish-proxy-metrics"];

/// Runs the command with `addresses` in place of the Services', and with `more` arguments.
fn run(rendered: &str, addresses: [&str; 2], more: &[&str]) -> Result<Output> {
    let mut lines = rendered.lines().map(str::trim);
    let command = lines.find_map(|line| line.strip_prefix("command: [/usr/local/bin/"));
    let command = command.and_then(|words| words.strip_suffix(']'));
    let (program, subcommand) = command
        .and_then(|words| words.split_once(", "))
        .context("a command")?;
    let mut pod = Command::new(binary(program)?);
    pod.arg(subcommand);
    let mut named = 0;
    for argument in lines.filter_map(|line| line.strip_prefix("- --")) {
        let mut argument = format!("--{argument}");
        for (service, address) in SERVICES.into_iter().zip(addresses) {
            let url = format!("http://{service}.tundish-system.svc:8081");
            named += argument.matches(&url).count();
            argument = argument.replace(&url, address);
        }
        pod.arg(argument);
    }
    ensure!(
        named == SERVICES.len(),
        "{named} of the Services are named: {rendered}"
    );
    pod.args(more).output().context("start it")
}

#[tokio::test]
async fn the_pod_of_helm_test_ends_well_if_all_are_ready_and_else_badly() -> Result<()> {
    let helm = Helm::new("helm", None)?;
    let enabled = "--set=metrics.service.enabled=true";
    let rendered = helm.template(&[enabled, "--show-only=templates/tests/ready.yaml"])?;
    let all = helm.template(&[enabled])?;
    for service in SERVICES {
        ensure!(
            all.contains(&format!("\n  name: {service}\n")),
            "no {service}"
        );
    }
    let gateway = Quickstart::start(&[]).await?;
    let done = run(&rendered, [&gateway.admin, &gateway.admin], &[])?;
    assert!(done.status.success(), "{done:?}");
    let unused = format!("http://127.0.0.1:{}", free_port()?);
    let failed = run(&rendered, [&gateway.admin, &unused], &["--wait=1"])?;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    Ok(())
}
