//! The real processes: a simulated Foundry, `tundish run` as replicas in front of it, and a store.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests_support::{Process, Redis, binary, eventually_ok, free_port, http};

/// How long a process may take to become ready beside others.
const START: Duration = Duration::from_secs(20);

/// What the simulator serves and [`ROUTE`] routes to: one model that gateways have learned from, and two
/// that they have not.
const MODELS: [&str; 3] = ["gpt-4o", "gpt-new-1", "gpt-new-2"];

/// Where the counters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counters {
    /// Each replica enforces its part of a limit.
    Memory,
    /// All replicas share a Redis server.
    Store,
}

impl Counters {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Store => "store",
        }
    }
}

/// A simulated Foundry of its own process.
#[derive(Debug)]
pub(super) struct Foundry {
    pub(super) address: SocketAddr,
    _process: Process,
}

impl Foundry {
    /// `more` are arguments of `foundry-sim`.
    pub(super) async fn start(folder: &Path, more: &[&str]) -> Result<Self> {
        let address = local(free_port()?);
        let mut command = Command::new(binary("foundry-sim")?);
        command.args(["--listen", &address.to_string(), "--record", "0"]);
        for model in MODELS {
            command.args(["--deployment", model]);
        }
        command.args(more);
        let mut process = Process::spawn("foundry-sim", &mut command, folder)?;
        let url = format!("http://{address}/_sim/billed");
        process.wait_for_http(&url, START).await?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// What it has produced so far and would bill, cut answers included.
    pub(super) async fn billed(&self) -> Result<Billed> {
        let answer = http::get(&format!("http://{}/_sim/billed", self.address)).await?;
        let all: serde_json::Value = answer.json()?;
        let mut sum = Billed::default();
        let deployments = all.get("deployments").and_then(|map| map.as_object());
        for totals in deployments.context("read what is billed")?.values() {
            let count = |name: &str| totals.get(name).and_then(serde_json::Value::as_u64);
            sum.requests += count("requests").context("read requests")?;
            sum.tokens += count("prompt_tokens").context("read prompt tokens")?;
            sum.tokens += count("completion_tokens").context("read completion tokens")?;
        }
        Ok(sum)
    }
}

/// What the simulator billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Billed {
    pub(super) requests: u64,
    pub(super) tokens: u64,
}

impl Billed {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            tokens: self.tokens.saturating_sub(before.tokens),
        }
    }
}

/// One `tundish run`.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) address: SocketAddr,
    pub(super) process: Process,
}

/// What a rig is made of.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    pub(super) counters: Counters,
    pub(super) replicas: usize,
    /// With `UPSTREAM` in the place of the simulator's address.
    pub(super) manifests: &'a str,
    /// Arguments of `foundry-sim`.
    pub(super) foundry: &'a [&'a str],
}

/// Replicas, their backend and their store.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) foundry: Foundry,
    pub(super) store: Option<Redis>,
    /// None once it was killed.
    pub(super) replicas: Vec<Option<Replica>>,
    /// Dropped last: logs and manifests are in it.
    _folder: TempDir,
}

impl Rig {
    pub(super) async fn start(setup: &Setup<'_>) -> Result<Self> {
        let folder = TempDir::with_prefix("tundish-bench-")?;
        let foundry = Foundry::start(folder.path(), setup.foundry).await?;
        let store = match setup.counters {
            Counters::Memory => None,
            Counters::Store => Some(Redis::start()?),
        };
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        let text = setup
            .manifests
            .replace("UPSTREAM", &foundry.address.to_string());
        std::fs::write(manifests.join("all.yaml"), text)?;
        let mut replicas = Vec::new();
        for number in 0..setup.replicas {
            let url = store.as_ref().map(Redis::url);
            let name = format!("tundish-{number}");
            let mut command = run(&manifests, setup.replicas, url.as_deref())?;
            let replica = replica(&name, &mut command, folder.path()).await?;
            replicas.push(Some(replica));
        }
        Ok(Self {
            foundry,
            store,
            replicas,
            _folder: folder,
        })
    }

    /// Where the replicas listen that still run.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas
            .iter()
            .flatten()
            .map(|replica| replica.address)
            .collect()
    }

    pub(super) fn store(&mut self) -> Result<&mut Redis> {
        self.store.as_mut().context("there is no store")
    }

    /// Waits until the simulator is done with what callers have left behind, and tells the bill.
    pub(super) async fn settled(&self) -> Result<Billed> {
        let mut last = None;
        eventually_ok("the simulator to be idle", START, async || {
            let now = self.foundry.billed().await?;
            let before = last.replace(now);
            // Longer than two tokens of a stream are apart, so nothing is running any more.
            tokio::time::sleep(Duration::from_millis(300)).await;
            anyhow::ensure!(before == Some(now), "it still produces");
            Ok(now)
        })
        .await
    }
}

/// Whether this build can share counters through a store.
pub(super) fn has_store() -> Result<bool> {
    let output = Command::new(binary("tundish")?)
        .args(["run", "--help"])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("--quota-store"))
}

/// `tundish run` on one thread, still without addresses.
pub(super) fn run(manifests: &Path, replicas: usize, store: Option<&str>) -> Result<Command> {
    let mut command = Command::new(binary("tundish")?);
    command.args(["run", "--threads", "1", "--no-access-log"]);
    command.args(["--replicas", &replicas.to_string()]);
    command.arg("--manifests").arg(manifests);
    if let Some(url) = store {
        command.args(["--quota-store", url]);
    }
    Ok(command)
}

/// Starts it on free ports, and waits until it is ready.
pub(super) async fn replica(name: &str, command: &mut Command, logs: &Path) -> Result<Replica> {
    let (address, admin) = (local(free_port()?), local(free_port()?));
    command.args(["--listen", &address.to_string()]);
    command.args(["--admin", &admin.to_string()]);
    let mut process = Process::spawn(name, command, logs)?;
    let url = format!("http://{admin}/readyz");
    process.wait_for_http(&url, START).await?;
    Ok(Replica { address, process })
}

pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The backend, and a route for every `gpt-` model to the consumers of [`consumer`].
pub(super) const ROUTE: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: http://UPSTREAM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments:
  - {name: gpt-4o, model: gpt-4o}
  - {name: gpt-new-1, model: gpt-4o}
  - {name: gpt-new-2, model: gpt-4o}
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {api-key: sim-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules:
  - name: chat
    matches: [{models: ['gpt-*'], operations: [ChatCompletions]}]
    backendRefs: [{name: sim}]
";

/// A consumer whose key is its name, of a group that quotas match on.
pub(super) fn consumer(name: &str, group: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  labels:\n    \
         tundish.dev/keys: chat\n    attributes.tundish.dev/group: {group}\n\
         stringData: {{key: {name}}}\n"
    )
}

/// A quota for each consumer of a group; `limits` is a YAML flow sequence.
pub(super) fn quota(group: &str, on_store_loss: &str, limits: &str) -> String {
    format!(
        "---\napiVersion: tundish.dev/v1alpha1\nkind: AIQuota\nmetadata: {{name: {group}}}\nspec:\n  \
         targetRefs: [{{name: chat}}]\n  match: {{consumers: {{attributes: {{group: {group}}}}}}}\n  \
         per: [Consumer]\n  onStoreLoss: {on_store_loss}\n  limits: {limits}\n"
    )
}
