//! The clients of what resources store, behind a balancer that gives each call to another replica, over two
//! resources: the replicas are restarted one after the other all the while, and then get another state key.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Process, binary, eventually_ok, free_port, http};
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

struct Replica {
    listen: String,
    admin: String,
    process: Process,
}

struct Stage {
    sims: Vec<(String, Process)>,
    replicas: Vec<Replica>,
    /// Dropped last: logs are in it.
    folder: tempfile::TempDir,
}

fn local() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
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
        let addresses = [local()?, local()?];
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
        std::fs::create_dir(folder.path().join("manifests"))?;
        std::fs::write(folder.path().join("manifests/all.yaml"), text)?;
        write_keys(folder.path(), &[OLD_KEY])?;
        let mut replicas = Vec::new();
        for (listen, admin) in [(local()?, local()?), (local()?, local()?)] {
            let process = replica(&listen, &admin, folder.path()).await?;
            replicas.push(Replica {
                listen,
                admin,
                process,
            });
        }
        Ok(Self {
            sims,
            replicas,
            folder,
        })
    }

    /// HAProxy that serves, and its address.
    async fn balancer(&self) -> Result<(Process, String)> {
        let listen = local()?;
        let mut text = HAPROXY.replace("LISTEN", &listen);
        for (index, replica) in self.replicas.iter().enumerate() {
            let (_, port) = replica.admin.rsplit_once(':').context("a port")?;
            text.push_str(&format!(
                "  server r{index} {} port {port}\n",
                replica.listen
            ));
        }
        let file = self.folder.path().join("haproxy.cfg");
        std::fs::write(&file, text)?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file);
        let process = Process::spawn("haproxy", &mut command, self.folder.path())?;
        let models = format!("http://{listen}/v1/models");
        eventually_ok("the balancer serves", LIMIT, async || {
            let answer = http::request(Method::GET, &models, &[ANN], "").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await?;
        Ok((process, format!("http://{listen}")))
    }

    /// The status of each replica's answer for what is kept, and the id in it.
    async fn found(&self, path: &str) -> Result<Vec<(u16, String)>> {
        let mut found = Vec::new();
        for replica in &self.replicas {
            let url = format!("http://{}{path}", replica.listen);
            let answer = http::request(Method::GET, &url, &[ANN], "").await?;
            let body: Value = answer.json()?;
            let id = body.get("id").and_then(Value::as_str).unwrap_or_default();
            found.push((answer.status, id.to_owned()));
        }
        Ok(found)
    }

    /// Restarts the oldest replica. Returns whether it had served a call.
    async fn restart(&mut self) -> Result<bool> {
        let Replica {
            listen,
            admin,
            process,
        } = self.replicas.remove(0);
        let served = process.log().contains(r#""status":200"#);
        let ended = process.terminate(LIMIT).await?;
        ensure!(ended.success(), "{ended}");
        let process = replica(&listen, &admin, self.folder.path()).await?;
        self.replicas.push(Replica {
            listen,
            admin,
            process,
        });
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

async fn replica(listen: &str, admin: &str, folder: &Path) -> Result<Process> {
    let mut command = Command::new(binary("tundish")?);
    command.args(["run", "--threads", "1", "--drain-delay", "1"]);
    command.args(["--listen", listen, "--admin", admin]);
    command.arg("--manifests").arg(folder.join("manifests"));
    command.arg("--state-keys").arg(folder.join("keys"));
    let mut process = Process::spawn(&format!("tundish-{listen}"), &mut command, folder)?;
    process
        .wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
        .await?;
    Ok(process)
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
                served += usize::from(stage.restart().await?);
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
    let replica = stage.replicas.first().context("a replica")?;
    let url = format!("http://{}/v1/responses", replica.listen);
    let body = json!({"model": "gpt-5", "input": "What is a tundish?"}).to_string();
    let mut kept = Vec::new();
    for keys in STEPS {
        let made = http::post_json(&url, &[ANN], body.clone()).await?;
        ensure!(made.status == 200, "{}", made.text());
        let made: Value = made.json()?;
        let id = made.get("id").and_then(Value::as_str).context("an id")?;
        kept.push(id.to_owned());
        write_keys(stage.folder.path(), &keys)?;
        for _ in 0..2 {
            stage.restart().await?;
            // Also while only one of the replicas has begun again.
            for id in &kept {
                let found = stage.found(&format!("/v1/responses/{id}")).await?;
                assert_eq!(found, vec![(200, id.clone()); 2]);
            }
        }
    }
    write_keys(stage.folder.path(), &[NEW_KEY])?;
    for _ in 0..2 {
        stage.restart().await?;
    }
    let id = kept.first().context("an id")?;
    let found = stage.found(&format!("/v1/responses/{id}")).await?;
    assert_eq!(found, vec![(404, String::new()); 2]);
    Ok(())
}
