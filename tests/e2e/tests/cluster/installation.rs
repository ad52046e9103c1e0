//! One installation in a namespace of its own: operators and proxies as local processes with the
//! accounts and the RBAC of the chart, and a simulated Foundry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_support::{
    BACKENDS_HERE, ControlPlane, Names, Output, Process, binary, eventually_ok, free_port, tool,
    workspace,
};

use crate::parts::{Proxy, Sim};

/// For everything that has no promise of its own: a start beside a build takes long.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What the design promises of every change, on a machine that has time for it.
pub(crate) const PROMISED: Duration = Duration::from_secs(1);
/// The same beside all other tests.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// The key that the simulated Foundry takes at first.
pub(crate) const SIM_KEY: &str = "sim-key";

/// The key of the one consumer of [`GOOD`].
pub(crate) const ANN: &str = "ann-key";

/// A backend with its Secret, a consumer, and a route.
pub(crate) const GOOD: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: SIM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {api-key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: ann, labels: {tundish.dev/keys: chat}}
stringData: {key: ann-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules:
  - name: chat
    matches: [{models: [gpt-4o]}]
    backendRefs: [{name: sim}]
";

/// The key of the one consumer of [`INTERNS`].
pub(crate) const INTERN: &str = "intern-key";

/// Four a minute for one consumer, two from each of two replicas.
pub(crate) const INTERNS: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: intern, labels: {tundish.dev/keys: chat}}
stringData: {key: intern-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: interns}
spec:
  targetRefs: [{name: chat}]
  match: {consumers: {names: [intern]}}
  per: [Consumer]
  limits: [{name: four-a-minute, unit: Requests, limit: 4, window: Minute}]
";

/// A namespace with accounts, and what runs for it.
pub(crate) struct Installation {
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) namespace: String,
    pub(crate) sim: Sim,
    /// Channel addresses of the operators, which every proxy follows.
    channels: [String; 2],
    kubeconfig: PathBuf,
    /// The store that proxies share which are started from now on.
    pub(crate) quota_store: Option<String>,
    /// Namespaces that operators watch which are started from now on, besides the own one.
    pub(crate) watched: Vec<&'static str>,
    /// Flags of operators and proxies that are started from now on, by their variables.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Whether the volume with the last good table is one in memory, which may have credentials.
    pub(crate) in_memory: bool,
    /// Proxies that are started from now on read the keys of the cluster's issuer.
    pub(crate) follows_cluster_issuer: bool,
    /// The names that proxies find which are started from now on, if not those of the machine.
    pub(crate) names: Option<Names>,
    /// Dropped last: the logs are in it.
    folder: TempDir,
}

/// One operator.
pub(crate) struct Operator {
    pub(crate) process: Process,
    pub(crate) admin: String,
}

/// With what a proxy says who it is.
pub(crate) enum Token<'a> {
    /// Its account, for the operators.
    Own,
    /// Another account, or for another audience.
    Other(&'a str, &'a str),
    /// Nothing.
    Missing,
}

// === impl Installation ===

impl Installation {
    /// Prepares the namespace `name`: CRDs, accounts, RBAC, and the simulated Foundry.
    pub(crate) async fn prepare(
        plane: Arc<ControlPlane>,
        name: &str,
        sim: &[&str],
    ) -> Result<Self> {
        Self::prepare_with(plane, name, sim, &[]).await
    }

    /// The same with values of the chart, as `--set` takes them.
    pub(crate) async fn prepare_with(
        plane: Arc<ControlPlane>,
        name: &str,
        sim: &[&str],
        values: &[&str],
    ) -> Result<Self> {
        let folder = TempDir::with_prefix(format!("tundish-{name}-"))?;
        let crds = workspace().join("crds/yaml");
        let crds = crds.to_str().context("the path is not text")?;
        // The first of several tests makes them, the others change nothing.
        let made = ["apply", "--server-side", "--force-conflicts", "-f", crds];
        plane.kubectl(&made).await?.success()?;
        for kind in ["aibackends", "airoutes", "aiquotas"] {
            let crd = format!("crd/{kind}.tundish.dev");
            let established = "condition=Established";
            plane.wait("default", &crd, established, LIMIT).await?;
        }
        plane.namespace(name, &[]).await?;
        plane.apply(&rbac(name, values)?).await?;
        let kubeconfig = plane.account_kubeconfig("tundish-operator", name).await?;
        let channels = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let sim = Sim::start(sim, folder.path()).await?;
        Ok(Self {
            plane,
            namespace: name.to_owned(),
            sim,
            channels,
            kubeconfig,
            quota_store: None,
            watched: Vec::new(),
            environment: Vec::new(),
            in_memory: true,
            follows_cluster_issuer: false,
            names: None,
            folder,
        })
    }

    /// Prepares `name` on the shared control plane, and starts an operator and two proxies.
    pub(crate) async fn start(name: &str, sim: &[&str]) -> Result<(Self, Operator, [Proxy; 2])> {
        let installation = Self::prepare(ControlPlane::shared().await?, name, sim).await?;
        let operator = installation.operator(0).await?;
        let proxies = installation.proxies().await?;
        Ok((installation, operator, proxies))
    }

    /// Starts the operator of this index, 0 or 1, and waits until it is ready.
    pub(crate) async fn operator(&self, index: usize) -> Result<Operator> {
        let channel = self.channels.get(index).context("no such operator")?;
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(binary("tundish-operator")?);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &self.namespace])
            .args(["--watch-namespace", &self.namespace])
            .args(
                self.watched
                    .iter()
                    .flat_map(|one| ["--watch-namespace", one]),
            )
            .args(["--identity", &format!("operator-{index}")])
            .args(["--snapshot-secrets", "tundish-snapshot"])
            .args(["--channel-listen", channel, "--admin", &admin])
            .arg(BACKENDS_HERE)
            .args(["--log-format", "text"]);
        command.envs(self.environment.iter().cloned());
        let name = format!("operator-{index}");
        let mut process = Process::spawn(&name, &mut command, self.folder.path())?;
        let admin = format!("http://{admin}");
        let ready = format!("{admin}/readyz");
        process.wait_for_http(&ready, LIMIT).await?;
        Ok(Operator { process, admin })
    }

    /// Starts two proxies, and waits until both are ready.
    pub(crate) async fn proxies(&self) -> Result<[Proxy; 2]> {
        let mut proxies = [
            self.proxy("proxy-0", &Token::Own).await?,
            self.proxy("proxy-1", &Token::Own).await?,
        ];
        for proxy in &mut proxies {
            proxy.ready().await?;
        }
        Ok(proxies)
    }

    /// Starts a proxy. One of the same name serves the last good table of its predecessor.
    pub(crate) async fn proxy(&self, name: &str, token: &Token<'_>) -> Result<Proxy> {
        let folder = self.folder.path();
        let address = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
        let (listen, admin) = (address()?, address()?);
        let program = binary("tundish-proxy")?;
        let names = self.names.as_ref();
        let mut command =
            names.map_or_else(|| Command::new(&program), |names| names.command(&program));
        // No balancer has to notice its end.
        command.env("TUNDISH_DRAIN_DELAY", "0");
        command.args(["--listen", &listen, "--admin", &admin, "--threads", "1"]);
        command.args(["--replica", name, "--log-format", "text", BACKENDS_HERE]);
        // As the workload identity webhook sets it, with the simulated Foundry as Entra and as the machine.
        command
            .env("AZURE_AUTHORITY_HOST", format!("{}/", self.sim.url))
            .env("AZURE_TENANT_ID", tests_foundry::TENANT)
            .env("AZURE_CLIENT_ID", tests_foundry::CLIENT)
            .env("AZURE_FEDERATED_TOKEN_FILE", self.assertion())
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &self.sim.url);
        for channel in &self.channels {
            command.args(["--operator", &format!("https://{channel}")]);
        }
        if let Some(url) = &self.quota_store {
            command.args(["--quota-store", url]);
        }
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        command.arg("--issuer-keys").arg(self.issuer_keys(name));
        if self.follows_cluster_issuer {
            // As the chart mounts it.
            let token = self
                .plane
                .service_account_token("tundish-proxy", &self.namespace);
            std::fs::write(file("api-token"), token.await?)?;
            command.args(["--api-server", &self.plane.url()]);
            command.arg("--api-server-ca").arg(self.plane.ca_file());
            command.arg("--api-server-token").arg(file("api-token"));
        }
        std::fs::write(file("ca"), self.authority().await?)?;
        command.arg("--operator-ca").arg(file("ca"));
        command.arg("--last-good").arg(file("last-good"));
        if self.in_memory {
            command.arg("--last-good-in-memory");
        }
        command.envs(self.environment.iter().cloned());
        let (account, audience) = match token {
            Token::Own | Token::Missing => ("tundish-proxy", "tundish"),
            Token::Other(account, audience) => (*account, *audience),
        };
        if !matches!(token, Token::Missing) {
            let token = self.plane.create_token(account, &self.namespace, audience);
            std::fs::write(file("token"), token.await?)?;
            command.arg("--token-file").arg(file("token"));
        }
        Ok(Proxy {
            process: Process::spawn(name, &mut command, folder)?,
            url: format!("http://{listen}"),
            admin: format!("http://{admin}"),
        })
    }

    /// The file with the token that Entra trades in; a test writes it.
    pub(crate) fn assertion(&self) -> PathBuf {
        self.folder.path().join("assertion")
    }

    /// The folder of logs, tokens and last good tables.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder in which a proxy of this name keeps the keys of issuers.
    pub(crate) fn issuer_keys(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.issuers"))
    }

    /// The file that a proxy of this name keeps.
    pub(crate) fn last_good(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.last-good"))
    }

    /// The CA certificates of the operators, as the chart mounts them. The API server may be away
    /// later, so they are kept.
    async fn authority(&self) -> Result<String> {
        let kept = self.folder.path().join("ca.pem");
        if let Ok(pem) = std::fs::read_to_string(&kept) {
            return Ok(pem);
        }
        let path = "jsonpath={.data.ca\\.crt}";
        let get = [
            "get",
            "configmap",
            "tundish-ca",
            "-n",
            &self.namespace,
            "-o",
            path,
        ];
        let pem = eventually_ok("the operators' CA", LIMIT, async || {
            let pem = self.plane.kubectl(&get).await?.success()?;
            ensure!(pem.contains("BEGIN CERTIFICATE"), "it is {pem:?}");
            Ok(pem)
        })
        .await?;
        std::fs::write(kept, &pem)?;
        Ok(pem)
    }

    /// `kubectl apply` of manifests without a namespace; `SIM` stands for the simulated Foundry.
    pub(crate) async fn try_apply(&self, manifests: &str) -> Result<Output> {
        let file = tempfile::Builder::new()
            .suffix(".yaml")
            .tempfile_in(self.folder.path())?;
        std::fs::write(file.path(), manifests.replace("SIM", &self.sim.url))?;
        let path = file.path().to_str().context("the path is not text")?;
        self.kubectl(&["apply", "-f", path]).await
    }

    /// [`Self::try_apply`] that must succeed.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<String> {
        self.try_apply(manifests).await?.success()
    }

    /// Runs kubectl in the namespace.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<Output> {
        let args = [&["-n", &self.namespace], args].concat();
        self.plane.kubectl(&args).await
    }

    /// `kubectl wait --for=CONDITION OBJECT`.
    pub(crate) async fn wait(&self, object: &str, condition: &str) -> Result<()> {
        self.plane
            .wait(&self.namespace, object, condition, LIMIT)
            .await
    }

    /// An object as it is stored.
    pub(crate) async fn get(&self, object: &str) -> Result<Value> {
        let json = self
            .kubectl(&["get", object, "-o", "json"])
            .await?
            .success()?;
        serde_json::from_str(&json).context("read the object")
    }
}

/// Accounts, RBAC and the objects that the operator writes as the chart makes them; kubectl applies what helm would install.
fn rbac(namespace: &str, values: &[&str]) -> Result<String> {
    let output = Command::new(tool("helm")?)
        .args(["template", "tundish"])
        .arg(workspace().join("charts/tundish"))
        .args(values.iter().flat_map(|value| ["--set", value]))
        .args([
            "--namespace",
            namespace,
            "--show-only",
            "templates/rbac.yaml",
            "--show-only",
            "templates/checkpoint.yaml",
            "--show-only",
            "templates/made.yaml",
            "--show-only",
            "templates/snapshot.yaml",
        ])
        .output()
        .context("run helm")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm template: {told}");
    String::from_utf8(output.stdout).context("read what helm wrote")
}

/// The body of a chat completion.
pub(crate) fn chat(model: &str) -> String {
    json!({
        "model": model,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": "What is a tundish?"}],
    })
    .to_string()
}

/// [`GOOD`]'s route under another name, for another model.
pub(crate) fn route(name: &str, model: &str, backend: &str) -> String {
    json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": "AIRoute",
        "metadata": {"name": name},
        "spec": {
            "authentication": {"apiKeys": {"secretSelector": {"matchLabels": {"tundish.dev/keys": "chat"}}}},
            "rules": [{
                "name": "chat",
                "matches": [{"models": [model]}],
                "backendRefs": [{"name": backend, "deployment": "gpt-4o"}],
            }],
        },
    })
    .to_string()
}
