//! The clients of what resources store, behind a balancer that gives each call to another replica, over two
//! resources: the replicas are restarted one after the other all the while, and then get another state key.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Process, Replicas, binary, eventually_ok, free_port, http};
use tokio::time::sleep;

use super::{MANIFESTS, SIM, run};

const LIMIT: Duration = Duration::from_secs(60);

/// Each request goes to the next replica, and to another if that has gone.
const HAPROXY: &str = "\
global
  maxconn 1024
defaults
  mode http
  retries 3
  option redispatch
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend gateways
  bind LISTEN
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 100ms fall 1 rise 1
";

const ANN: (&str, &str) = ("api-key", "key-of-search");

const OLD_KEY: &str = "0123456789abcdef0123456789abcdef";
const NEW_KEY: &str = "fedcba9876543210fedcba9876543210";
/// How the key is changed, with a restart of all replicas after each step: it is known, and then in use.
const STEPS: [[&str; 2]; 2] = [[OLD_KEY, NEW_KEY], [NEW_KEY, OLD_KEY]];

struct Stage {
    /// Each with its address.
    sims: Vec<(String, Process)>,
    replicas: Replicas,
    /// Dropped last: logs and the keys are in it.
    folder: tempfile::TempDir,
}

fn write_keys(folder: &Path, keys: &[&str]) -> Result<()> {
    Ok(std::fs::write(folder.join("keys"), keys.join("\n"))?)
}

/// The manifests with a second resource beside each.
fn manifests(sims: [&str; 2]) -> String {
    let documents = MANIFESTS.split("---\n").map(|document| {
        if !document.contains("kind: AIBackend") {
            return document.replace(
                "    - name: foundry\n",
                "    - name: foundry\n    - name: second\n",
            );
        }
        let second = document.replace("name: foundry, namespace", "name: second, namespace");
        [
            document.replace("127.0.0.1:8082", sims[0]),
            second.replace("127.0.0.1:8082", sims[1]),
        ]
        .join("---\n")
    });
    documents.collect::<Vec<_>>().join("---\n")
}

impl Stage {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut sims = Vec::new();
        let addresses = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let text = manifests(addresses.each_ref().map(String::as_str));
        for address in addresses {
            let mut command = Command::new(binary("foundry-sim")?);
            command.args(["--listen", &address]).args(SIM);
            let name = format!("foundry-sim-{}", sims.len());
            let mut process = Process::spawn(&name, &mut command, folder.path())?;
            let page = format!("http://{address}/_sim/billed");
            process.wait_for_http(&page, LIMIT).await?;
            sims.push((address, process));
        }
        write_keys(folder.path(), &[OLD_KEY])?;
        let keys = folder.path().join("keys");
        let keys = keys.to_str().context("a path")?;
        let arguments = ["--drain-delay", "1", "--state-keys", keys];
        let replicas = Replicas::with_manifests(2, &text, &arguments).await?;
        Ok(Self {
            sims,
            replicas,
            folder,
        })
    }

    /// HAProxy that serves, and its URL.
    async fn balancer(&self) -> Result<(Process, String)> {
        let (process, url) = self.replicas.balancer(HAPROXY)?;
        let models = format!("{url}/v1/models");
        eventually_ok("the balancer serves", LIMIT, async || {
            let answer = http::request(Method::GET, &models, &[ANN], "").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await?;
        Ok((process, url))
    }

    /// The status of each replica's answer for what is kept, and the id in it.
    async fn found(&self, path: &str) -> Result<Vec<(u16, String)>> {
        let mut found = Vec::new();
        for replica in self.replicas.all() {
            let url = format!("{}{path}", replica.gateway);
            let answer = http::request(Method::GET, &url, &[ANN], "").await?;
            let body: Value = answer.json()?;
            let id = body.get("id").and_then(Value::as_str).unwrap_or_default();
            found.push((answer.status, id.to_owned()));
        }
        Ok(found)
    }

    /// Restarts a replica. Returns whether it had served a call.
    async fn restart(&mut self, index: usize) -> Result<bool> {
        let served = self.replicas.at(index).log().contains(r#""status":200"#);
        let ended = self.replicas.terminate(index, LIMIT).await?;
        ensure!(ended.success(), "{ended}");
        self.replicas.restart(index).await?;
        Ok(served)
    }

    /// The requests that each resource had.
    async fn asked(&self) -> Result<Vec<usize>> {
        let mut asked = Vec::new();
        for (address, _) in &self.sims {
            let page = http::get(&format!("http://{address}/_sim/requests")).await?;
            asked.push(page.json::<Vec<Value>>()?.len());
        }
        Ok(asked)
    }
}

#[tokio::test]
async fn restarts_lose_nothing_that_is_stored() -> Result<()> {
    let mut stage = Stage::start().await?;
    let (_balancer, url) = stage.balancer().await?;
    let (direct, _) = stage.sims.first().context("a resource")?;
    let direct = format!("http://{direct}");
    let arguments = [&url, "key-of-search", &direct, "direct", "key-of-ads"];
    let arguments = arguments.map(str::to_owned).to_vec();
    let scripts = [
        "families_stored.py",
        "families_stored.mjs",
        "families_agents.py",
    ];
    let mut clients = tokio::task::JoinSet::new();
    for script in scripts {
        clients.spawn(run(script, arguments.clone()));
    }
    let (mut restarts, mut served, mut passed) = (0_usize, 0, 0);
    loop {
        tokio::select! {
            ended = clients.join_next() => match ended {
                Some(ended) => passed += ended??,
                None => break,
            },
            () = sleep(Duration::from_millis(500)) => {
                served += usize::from(stage.restart(restarts % 2).await?);
                restarts += 1;
            }
        }
    }
    let asked = stage.asked().await?;
    println!("{passed} calls, {restarts} restarts, {asked:?} requests");
    ensure!(restarts >= 4, "{restarts} restarts only");
    ensure!(2 * served > restarts, "{served} replicas were asked");
    ensure!(asked.iter().all(|requests| *requests > 0), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn another_state_key_loses_nothing_until_the_old_one_goes() -> Result<()> {
    let mut stage = Stage::start().await?;
    let url = format!("{}/v1/responses", stage.replicas.at(0).gateway);
    let body = json!({"model": "gpt-5", "input": "What is a tundish?"}).to_string();
    let mut kept = Vec::new();
    for keys in STEPS {
        let made = http::post_json(&url, &[ANN], body.clone()).await?;
        ensure!(made.status == 200, "{}", made.text());
        let made: Value = made.json()?;
        let id = made.get("id").and_then(Value::as_str).context("an id")?;
        kept.push(id.to_owned());
        write_keys(stage.folder.path(), &keys)?;
        for index in 0..2 {
            stage.restart(index).await?;
            // Also while only one of the replicas has begun again.
            for id in &kept {
                let found = stage.found(&format!("/v1/responses/{id}")).await?;
                assert_eq!(found, vec![(200, id.clone()); 2]);
            }
        }
    }
    write_keys(stage.folder.path(), &[NEW_KEY])?;
    for index in 0..2 {
        stage.restart(index).await?;
    }
    let id = kept.first().context("an id")?;
    let found = stage.found(&format!("/v1/responses/{id}")).await?;
    assert_eq!(found, vec![(404, String::new()); 2]);
    Ok(())
}
