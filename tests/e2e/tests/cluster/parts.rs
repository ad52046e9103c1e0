//! The parts of an installation that tests talk to: the simulated Foundry and the proxies.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::http::{self, Answer};
use tests_support::{Process, binary, eventually_ok, free_port};

use crate::installation::{LIMIT, SIM_KEY, chat};

/// The simulated Foundry.
pub(crate) struct Sim {
    pub(crate) url: String,
    _process: Process,
}

/// One proxy.
pub(crate) struct Proxy {
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) process: Process,
}

// === impl Sim ===

impl Sim {
    pub(crate) async fn start(args: &[&str], logs: &Path) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(binary("foundry-sim")?);
        command.args(["--listen", &address, "--api-key", SIM_KEY]);
        let mut process = Process::spawn("foundry-sim", command.args(args), logs)?;
        let url = format!("http://{address}");
        let billed = format!("{url}/_sim/billed");
        process.wait_for_http(&billed, LIMIT).await?;
        Ok(Self {
            url,
            _process: process,
        })
    }

    /// From now on only these keys are taken.
    pub(crate) async fn take_only(&self, keys: &[&str]) -> Result<()> {
        let url = format!("{}/_sim/keys", self.url);
        let put = http::request("PUT".parse()?, &url, &[], json!(keys).to_string()).await?;
        ensure!(put.status == 204, "{}: {}", put.status, put.text());
        Ok(())
    }

    /// Chat completions that a model has answered.
    pub(crate) async fn answered(&self) -> Result<u64> {
        let url = format!("{}/_sim/billed", self.url);
        let billed: Value = http::get(&url).await?.json()?;
        let deployments = billed
            .get("deployments")
            .and_then(Value::as_object)
            .context("no deployments")?;
        Ok(deployments
            .values()
            .filter_map(|one| one["requests"].as_u64())
            .sum())
    }
}

// === impl Proxy ===

impl Proxy {
    /// Waits until it has a table.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let ready = format!("{}/readyz", self.admin);
        self.process.wait_for_http(&ready, LIMIT).await
    }

    /// One chat completion over a connection of its own.
    pub(crate) async fn ask(&self, key: &str, model: &str) -> Result<Answer> {
        let url = format!("{}/v1/chat/completions", self.url);
        http::post_json(&url, &[("api-key", key)], chat(model)).await
    }

    /// Waits until a request is answered with `status`.
    pub(crate) async fn answers(
        &self,
        (key, model): (&str, &str),
        status: u16,
        limit: Duration,
    ) -> Result<()> {
        let what = format!("{} to answer {status} for {model}", self.url);
        eventually_ok(&what, limit, async || {
            let answer = self.ask(key, model).await?;
            ensure!(
                answer.status == status,
                "{}: {}",
                answer.status,
                answer.text()
            );
            Ok(())
        })
        .await
    }

    /// The sum of the metrics whose line begins with `name`; 0 if there is none.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let page = http::get(&format!("{}/metrics", self.admin)).await?.text();
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next())
            .map(|value| value.parse::<f64>().context("read a metric"))
            .sum()
    }
}
