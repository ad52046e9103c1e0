//! Batches by the official SDK for Python, over two resources and two replicas: whoever is asked knows them, also
//! after a restart, and what is counted is what the resources bill.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_foundry::{Config, Sim};
use tests_support::{Replica, Replicas, eventually, http, paths, workspace};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(120);

/// Two consumers, two resources that also have a deployment for others, and a limit that a large batch exceeds.
const MANIFESTS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: foundry}
stringData: {api-key: sim-key}
---
apiVersion: v1
kind: Secret
metadata:
  name: ann
  labels: {tundish.dev/keys: models}
stringData: {key: ann-key}
---
apiVersion: v1
kind: Secret
metadata:
  name: bob
  labels: {tundish.dev/keys: models}
stringData: {key: bob-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: models}
spec:
  authentication:
    apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: models}}}
  rules:
  - name: open
    matches: [{models: [gpt-5]}]
    backendRefs: [{name: b0}, {name: b1}]
  - name: closed
    matches: [{models: [secret], consumers: {names: [bob]}}]
    backendRefs: [{name: b0}, {name: b1}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: plenty}
spec:
  per: [Consumer]
  limits:
  - {name: day, unit: Tokens, limit: 10000000, window: Day}
"#;

/// What a replica has counted of a class of tokens.
async fn counted(replica: &Replica, class: &str) -> Result<u64> {
    let page = http::get(&format!("{}/metrics", replica.admin)).await?;
    let text = page.text();
    let lines = text.lines().filter(|line| {
        line.starts_with("tundish_tokens_total{")
            && line.contains(&format!("token_type=\"{class}\""))
    });
    let numbers = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(numbers.sum())
}

struct Installation {
    sims: Vec<Sim>,
    replicas: Replicas,
    /// Of the state keys.
    _folder: tempfile::TempDir,
}

impl Installation {
    async fn start(time: Duration) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let deployments = [
            "gpt-5=gpt-5-2025-08-07,reasoning=3,cached=2",
            "secret=gpt-5-2025-08-07",
        ];
        let deployments = deployments.map(str::parse);
        let config = Config {
            deployments: deployments.into_iter().collect::<Result<_, _>>()?,
            background_time: time,
            ..Config::default()
        };
        let sims = (0..2).map(|_| Sim::start(&config));
        let sims = sims.collect::<std::io::Result<Vec<_>>>()?;
        let mut text = MANIFESTS.to_owned();
        for (index, sim) in sims.iter().enumerate() {
            text += &format!(
                "---\napiVersion: tundish.dev/v1alpha1\nkind: AIBackend\nmetadata: {{name: b{index}}}\nspec:\n  \
                 type: Foundry\n  endpoint: {}\n  allowPlaintext: true\n  auth: {{type: APIKey, apiKey: \
                 {{secretRef: {{name: foundry, key: api-key}}}}}}\n  deployments: [{{name: gpt-5, model: gpt-5}}, \
                 {{name: secret, model: gpt-5}}]\n",
                sim.url()
            );
        }
        let keys = folder.path().join("state-keys");
        std::fs::write(&keys, "0123456789abcdef".repeat(4))?;
        let keys = keys.to_str().context("a path")?;
        let arguments = ["--drain-grace", "1", "--state-keys", keys];
        let replicas = Replicas::with_manifests(2, &text, &arguments).await?;
        Ok(Self {
            sims,
            replicas,
            _folder: folder,
        })
    }

    fn client(&self, pause: bool) -> Result<Command> {
        let folder = paths::clients()?;
        let mut command = Command::new(folder.join("venv/bin/python"));
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .kill_on_drop(true);
        command.arg(workspace().join("tests/e2e/clients/batches.py"));
        command.args(self.replicas.all().iter().map(|one| &one.gateway));
        command.args(["ann-key", "bob-key"]);
        if pause {
            command.arg("pause");
        }
        Ok(command)
    }
}

#[tokio::test]
async fn every_token_of_a_batch_is_counted_once() -> Result<()> {
    let installation = Installation::start(Duration::from_millis(400)).await?;
    let mut command = installation.client(false)?;
    let output = tokio::time::timeout(LIMIT, command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    let passed: Vec<String> = serde_json::from_slice(&output.stdout)?;
    assert_eq!(passed.len(), 12);
    let bill = |read: fn(&tests_foundry::Usage) -> u64| -> u64 {
        let bills = installation.sims.iter().map(Sim::billed);
        bills
            .filter_map(|bill| bill.deployments.get("gpt-5").map(|one| read(one)))
            .sum()
    };
    for (class, billed) in [
        ("input", bill(|one| one.prompt_tokens)),
        ("cached_input", bill(|one| one.cached_tokens)),
        ("output", bill(|one| one.completion_tokens)),
        ("reasoning", bill(|one| one.reasoning_tokens)),
    ] {
        assert!(billed > 0, "{class}");
        let what = format!("{class} is {billed}, as billed");
        eventually(&what, Duration::from_secs(20), async || {
            let mut all = 0;
            for replica in installation.replicas.all() {
                all += counted(replica, class).await.ok()?;
            }
            (all == billed).then_some(())
        })
        .await?;
    }
    let secret = installation
        .sims
        .iter()
        .any(|sim| sim.billed().deployments.contains_key("secret"));
    assert!(!secret, "a model of another rule was called");
    Ok(())
}

/// Between the making of a batch and the first question about it, each replica is stopped and started again.
#[tokio::test]
async fn a_batch_is_known_after_a_restart_of_every_replica() -> Result<()> {
    let mut installation = Installation::start(Duration::from_secs(3)).await?;
    let mut command = installation.client(true)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut client = command.spawn()?;
    let mut input = client.stdin.take().context("an input")?;
    let mut lines = BufReader::new(client.stdout.take().context("an output")?).lines();
    let mut restarts = 0;
    let last = loop {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        match line {
            Some(line) if line == "made" => {
                if restarts < 2 {
                    let replicas = &mut installation.replicas;
                    replicas.terminate(restarts, LIMIT).await?;
                    replicas.restart(restarts).await?;
                    restarts += 1;
                }
                input.write_all(b"go\n").await?;
            }
            Some(line) => break line,
            None => {
                let output = client.wait_with_output().await?;
                anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    };
    let passed: Vec<String> = serde_json::from_str(&last)?;
    assert_eq!((passed.len(), restarts), (12, 2));
    Ok(())
}
