//! From a write that the API server has answered to its enforcement on two proxies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proxy_admin::clock;
use serde_json::{Value, json};
use tests_support::http::Connection;
use tests_support::{
    BACKENDS_HERE, ControlPlane, Process, binary, eventually_ok, free_port, http, tool, workspace,
};
use tokio::time::{sleep, timeout};

use crate::figures::mega;
use crate::latency::Latencies;
use crate::page::{line, progress};
use crate::process::{self, runtime};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Changes to measure
    #[arg(long, default_value_t = 50)]
    changes: usize,
    /// Routes that are loaded before
    #[arg(long, default_value_t = 1_000)]
    routes: usize,
}

/// Namespace of everything.
const NAMESPACE: &str = "bench";

/// Routes in one `kubectl apply`.
const BATCH: usize = 250;

/// How often a proxy is asked whether it knows a change: the error of a figure.
const POLL: Duration = Duration::from_millis(1);

/// Nothing takes as long, not even the first listing of many objects.
const LIMIT: Duration = Duration::from_secs(300);

const BACKEND: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim, namespace: bench}
spec:
  type: Foundry
  endpoint: http://UPSTREAM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim, namespace: bench}
stringData: {api-key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: ann, namespace: bench, labels: {tundish.dev/keys: chat}}
stringData: {key: ann-key}
";

/// Everything that runs.
struct Cluster {
    // In the order of their end: the control plane after its clients.
    _api: Process,
    proxies: Vec<Replica>,
    operator: Process,
    _sim: Process,
    plane: ControlPlane,
    /// Where `kubectl proxy` listens: a client that needs no start for each write.
    api_url: String,
}

/// One proxy.
struct Replica {
    url: String,
    process: Process,
    last_good: PathBuf,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.routes > 0 && args.changes > 0, "nothing to measure");
    let folder = tempfile::tempdir()?;
    runtime(1)?.block_on(async {
        progress("starting a control plane, an operator and two proxies");
        let cluster = Cluster::start(folder.path()).await?;
        let empty = cluster.memory()?;
        progress(&format!("applying {} routes", args.routes));
        let loading = clock::instant();
        cluster.load(args.routes, folder.path()).await?;
        let loaded = clock::instant().saturating_duration_since(loading);
        let full = cluster.memory()?;
        progress(&format!("making {} changes", args.changes));
        let (answered, sent) = cluster.measure(args).await?;

        line(&format!(
            "\n{} routes loaded, {} changes of one route, seen on the slower of two proxies\n",
            args.routes, args.changes
        ));
        line("| from | p50 ms | p99 ms | max ms |");
        line("|---|---|---|---|");
        for (from, latencies) in [("the answered write", answered), ("the sent write", sent)] {
            let [half, most, all] = [0.5, 0.99, 1.0].map(|share| millis(&latencies, share));
            line(&format!("| {from} | {half} | {most} | {all} |"));
        }
        line(&format!(
            "\ntable: {:.2} MB; all routes applied, in force and Ready after {:.1} s",
            mega(cluster.table()?),
            loaded.as_secs_f64()
        ));
        let names = ["operator", "proxy", "proxy"];
        for (name, ((empty, full), now)) in
            names.iter().zip(empty.iter().zip(&full).zip(cluster.memory()?))
        {
            line(&format!(
                "resident memory of the {name}: {:.1} MB empty, {:.1} MB loaded, {:.1} MB after the changes",
                mega(*empty),
                mega(*full),
                mega(now)
            ));
        }
        Ok(())
    })
}

fn millis(latencies: &Latencies, share: f64) -> String {
    let micros = latencies.micros(share);
    format!("{}.{}", micros / 1_000, micros % 1_000 / 100)
}

// === impl Cluster ===

impl Cluster {
    async fn start(folder: &Path) -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let crds = workspace().join("crds/yaml");
        let crds = crds.to_str().context("the path is not text")?;
        let apply = ["apply", "--server-side", "-f", crds];
        plane.kubectl(&apply).await?.success()?;
        for kind in ["aibackends", "airoutes", "aiquotas"] {
            let crd = format!("crd/{kind}.tundish.dev");
            let established = "condition=Established";
            plane.wait("default", &crd, established, LIMIT).await?;
        }
        plane.namespace(NAMESPACE, &[]).await?;

        let upstream = local()?;
        let mut command = Command::new(binary("foundry-sim")?);
        command.args(["--listen", &upstream, "--record", "0"]);
        let mut sim = Process::spawn("foundry-sim", &mut command, folder)?;
        let billed = format!("http://{upstream}/_sim/billed");
        sim.wait_for_http(&billed, LIMIT).await?;
        plane.apply(&BACKEND.replace("UPSTREAM", &upstream)).await?;

        let (channel, admin) = (local()?, local()?);
        let mut command = Command::new(binary("tundish-operator")?);
        command.arg("--kubeconfig").arg(plane.kubeconfig());
        command.args(["--namespace", NAMESPACE, "--watch-namespace", NAMESPACE]);
        command.args([
            "--channel-listen",
            &channel,
            "--admin",
            &admin,
            BACKENDS_HERE,
        ]);
        let mut operator = Process::spawn("operator", &mut command, folder)?;
        let ready = format!("http://{admin}/readyz");
        operator.wait_for_http(&ready, LIMIT).await?;
        let mut proxies = Vec::new();
        for name in ["proxy-0", "proxy-1"] {
            let proxy = Replica::start(name, &plane, &channel, folder);
            proxies.push(proxy.await?);
        }

        let port = free_port()?;
        let mut command = Command::new(tool("kubectl")?);
        command.env("KUBECONFIG", plane.kubeconfig());
        command.args(["proxy", &format!("--port={port}")]);
        let mut api = Process::spawn("kubectl-proxy", &mut command, folder)?;
        let api_url = format!("http://127.0.0.1:{port}");
        let ready = format!("{api_url}/readyz");
        api.wait_for_http(&ready, LIMIT).await?;
        Ok(Self {
            _api: api,
            proxies,
            operator,
            _sim: sim,
            plane,
            api_url,
        })
    }

    /// Applies the routes, and waits until the status of each says that every proxy has it.
    async fn load(&self, routes: usize, folder: &Path) -> Result<()> {
        let numbers: Vec<usize> = (0..routes).collect();
        for batch in numbers.chunks(BATCH) {
            let routes: Vec<String> = batch.iter().map(|number| route(*number)).collect();
            let file = folder.join("routes.yaml");
            std::fs::write(&file, routes.join("\n---\n"))?;
            let path = file.to_str().context("the path is not text")?;
            let apply = ["apply", "--server-side", "-f", path];
            self.plane.kubectl(&apply).await?.success()?;
        }
        let programmed = r"jsonpath={range .items[*]}{.status.programmed}{'\n'}{end}";
        let get = ["get", "airoutes", "-n", NAMESPACE, "-o", programmed];
        eventually_ok("all routes to be in force", LIMIT, async || {
            let lines = self.plane.kubectl(&get).await?.success()?;
            let ready = lines.lines().filter(|line| *line == "all").count();
            ensure!(ready == routes, "{ready} are");
            Ok(())
        })
        .await
    }

    /// Changes one route after the other. The times are those of the slower proxy, from the write's
    /// answer and from its sending.
    async fn measure(&self, args: &Args) -> Result<(Latencies, Latencies)> {
        let (mut answered, mut sent) = (Latencies::new()?, Latencies::new()?);
        let mut connections = Vec::new();
        for proxy in &self.proxies {
            connections.push(Connection::open(&proxy.url).await?);
        }
        let [first, second] = connections.as_mut_slice() else {
            anyhow::bail!("not two proxies");
        };
        for change in 0..args.changes {
            let number = change * args.routes / args.changes;
            let model = format!("change-{change}");
            let (one, other, write) = tokio::join!(
                seen(first, &model),
                seen(second, &model),
                self.change(number, &model)
            );
            let (begun, done) = write?;
            let seen = one?.max(other?);
            answered.record(seen.saturating_duration_since(done));
            sent.record(seen.saturating_duration_since(begun));
        }
        Ok((answered, sent))
    }

    /// Lets the route take another model, too. Gives when this was sent and when it was answered.
    async fn change(&self, number: usize, model: &str) -> Result<(Instant, Instant)> {
        let own = format!("model-{number}");
        let patch = json!([{
            "op": "replace",
            "path": "/spec/rules/0/matches/0/models",
            "value": [own, model],
        }]);
        let url = format!(
            "{}/apis/tundish.dev/v1alpha1/namespaces/{NAMESPACE}/airoutes/route-{number}",
            self.api_url
        );
        let kind = [("content-type", "application/json-patch+json")];
        let begun = clock::instant();
        let answer = http::request("PATCH".parse()?, &url, &kind, patch.to_string()).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        Ok((begun, clock::instant()))
    }

    /// Resident memory of the operator and of each proxy.
    fn memory(&self) -> Result<Vec<u64>> {
        let proxies = self.proxies.iter().map(|proxy| &proxy.process);
        let all = std::iter::once(&self.operator).chain(proxies);
        all.map(|one| process::resident(one.id())).collect()
    }

    /// Bytes of the table as it is sent and kept.
    fn table(&self) -> Result<u64> {
        let proxy = self.proxies.first().context("no proxy")?;
        let kept = std::fs::metadata(&proxy.last_good);
        Ok(kept.context("no last good table")?.len())
    }
}

// === impl Replica ===

impl Replica {
    async fn start(name: &str, plane: &ControlPlane, channel: &str, folder: &Path) -> Result<Self> {
        let (listen, admin) = (local()?, local()?);
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        let path = "jsonpath={.data.ca\\.crt}";
        let get = ["get", "cm", "tundish-ca", "-n", NAMESPACE, "-o", path];
        let ca = eventually_ok("the operator's CA", LIMIT, async || {
            let ca = plane.kubectl(&get).await?.success()?;
            ensure!(ca.contains("BEGIN CERTIFICATE"), "it is {ca:?}");
            Ok(ca)
        });
        std::fs::write(file("ca"), ca.await?)?;
        let token = plane.create_token("tundish-proxy", NAMESPACE, "tundish");
        std::fs::write(file("token"), token.await?)?;
        let mut command = Command::new(binary("tundish-proxy")?);
        command.args(["--listen", &listen, "--admin", &admin, "--threads", "1"]);
        command.args(["--replica", name, "--no-access-log", BACKENDS_HERE]);
        command.args(["--operator", &format!("https://{channel}")]);
        command.arg("--operator-ca").arg(file("ca"));
        command.arg("--token-file").arg(file("token"));
        command.arg("--last-good").arg(file("last-good"));
        let mut process = Process::spawn(name, &mut command, folder)?;
        let ready = format!("http://{admin}/readyz");
        process.wait_for_http(&ready, LIMIT).await?;
        Ok(Self {
            url: format!("http://{listen}"),
            process,
            last_good: file("last-good"),
        })
    }
}

/// Asks for a model until it is answered, and gives when that was.
async fn seen(connection: &mut Connection, model: &str) -> Result<Instant> {
    let body =
        json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]});
    let body = body.to_string();
    let asking = async {
        loop {
            let asked = connection.post_json(
                "/v1/chat/completions",
                &[("api-key", "ann-key")],
                body.clone(),
            );
            let answer = asked.await?;
            match answer.status {
                200 => return Ok(clock::instant()),
                404 => sleep(POLL).await,
                other => anyhow::bail!("{other}: {}", answer.text()),
            }
        }
    };
    timeout(LIMIT, asking).await.context("never in force")?
}

fn route(number: usize) -> String {
    let route: Value = json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": "AIRoute",
        "metadata": {"name": format!("route-{number}"), "namespace": NAMESPACE},
        "spec": {
            "authentication": {"apiKeys": {"secretSelector": {"matchLabels": {"tundish.dev/keys": "chat"}}}},
            "rules": [{
                "name": "chat",
                "matches": [{"models": [format!("model-{number}")]}],
                "backendRefs": [{"name": "sim", "deployment": "gpt-4o"}],
            }],
        },
    });
    route.to_string()
}

fn local() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}
