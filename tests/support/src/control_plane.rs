//! A real Kubernetes control plane on loopback: etcd and the API server, and on demand the controllers, the
//! scheduler and kwok, which plays the kubelet of one node: the API shows running workloads.
//!
//! Ready in about five seconds, killed on drop. It has no containers and no pod network: our own
//! programs run beside it as local processes, with tokens of its TokenRequest API.

mod certificates;
mod kubectl;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use tempfile::TempDir;

use self::certificates::Certificates;
use self::kubectl::Kubectl;
pub use self::kubectl::Output;
use crate::{Process, eventually_ok, free_port, leaks, tool};

/// A start takes two seconds on idle cores, and much longer beside a build.
const START: Duration = Duration::from_secs(60);

/// The issuer of service account tokens, as kubeadm names it.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    // In drop order: clients before servers, the folder last.
    workloads: Vec<Process>,
    api_server: Mutex<Option<Process>>,
    etcd: Process,
    etcd_url: String,
    port: u16,
    certificates: Certificates,
    kubectl: Kubectl,
    folder: TempDir,
}

impl ControlPlane {
    /// Starts etcd and the API server, and waits until it is ready.
    ///
    /// # Errors
    /// A program is missing (`make tools` builds it) or does not come up; the error shows its log.
    pub async fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("tundish-control-plane-").context("make a folder")?;
        let root = folder.path();
        let certificates = Certificates::make(&root.join("certificates"))?;
        let (etcd, etcd_url) = start_etcd(root).await?;
        let port = free_port()?;
        let kubeconfig = root.join("admin.kubeconfig");
        let user = serde_json::json!({
            "client-certificate": certificates.admin.certificate,
            "client-key": certificates.admin.key,
        });
        write_kubeconfig(&kubeconfig, port, &certificates.ca, &user, "default")?;
        let kubectl = Kubectl {
            program: tool("kubectl")?,
            kubeconfig,
            cache: root.join("kubectl-cache"),
        };
        let plane = Self {
            workloads: Vec::new(),
            api_server: Mutex::new(None),
            etcd,
            etcd_url,
            port,
            certificates,
            kubectl,
            folder,
        };
        plane.start_api_server().await?;
        Ok(plane)
    }

    /// A control plane with workloads, shared by the tests of this process: the first caller starts it, the
    /// last drop stops it. Use one namespace per test.
    ///
    /// # Errors
    /// It does not start.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: tokio::sync::Mutex<Weak<ControlPlane>> =
            tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(plane) = shared.upgrade() {
            return Ok(plane);
        }
        let plane = Arc::new(Self::start().await?.with_workloads().await?);
        *shared = Arc::downgrade(&plane);
        Ok(plane)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubectl.kubeconfig
    }

    /// The URL of the API server.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The CA that signed the API server's certificate, PEM.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.ca
    }

    /// A folder for files and logs, removed with the control plane.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// kubectl cannot be run; what it answers is in the output.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.kubectl.call(args, "").await
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// One of them is refused.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.try_apply(yaml).await?.success()
    }

    /// Applies manifests that the API server may refuse.
    ///
    /// # Errors
    /// kubectl cannot be run.
    pub async fn try_apply(&self, yaml: &str) -> Result<Output> {
        leaks::applied(yaml);
        self.kubectl.call(&["apply", "-f", "-"], yaml).await
    }

    /// Creates a namespace with these labels (`key=value`), or labels the existing one.
    ///
    /// # Errors
    /// It is refused.
    pub async fn namespace(&self, name: &str, labels: &[&str]) -> Result<()> {
        let yaml = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        self.apply(&yaml).await?;
        if !labels.is_empty() {
            let args = [&["label", "--overwrite", "namespace", name], labels].concat();
            self.kubectl(&args).await?.success()?;
        }
        Ok(())
    }

    /// `kubectl wait --for=CONDITION OBJECT`, which also waits for the object to appear.
    ///
    /// # Errors
    /// The condition does not hold within `limit`; the error shows the object.
    pub async fn wait(
        &self,
        namespace: &str,
        object: &str,
        condition: &str,
        limit: Duration,
    ) -> Result<()> {
        let what = format!("{condition} of {object} in {namespace}");
        let wait = [
            "wait",
            "-n",
            namespace,
            object,
            &format!("--for={condition}"),
            "--timeout=2s",
        ];
        let outcome = eventually_ok(&what, limit, async || self.kubectl(&wait).await?.success());
        if let Err(error) = outcome.await {
            let object = self
                .kubectl(&["get", "-n", namespace, object, "-o", "yaml"])
                .await?;
            return Err(error.context(format!("{}{}", object.stdout, object.stderr)));
        }
        Ok(())
    }

    /// A token of the service account for this audience, valid for an hour, as a projected volume
    /// would hold it. Creates a missing account.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn create_token(
        &self,
        account: &str,
        namespace: &str,
        audience: &str,
    ) -> Result<String> {
        self.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {account}, namespace: {namespace}}}}}"
        ))
        .await?;
        let token = self
            .kubectl(&[
                "create",
                "token",
                account,
                "-n",
                namespace,
                "--audience",
                audience,
            ])
            .await?
            .success()?;
        Ok(token.trim().to_owned())
    }

    /// A token of the service account for the API server itself. Creates a missing account.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn service_account_token(&self, account: &str, namespace: &str) -> Result<String> {
        self.create_token(account, namespace, ISSUER).await
    }

    /// A kubeconfig of the service account, with its RBAC only.
    ///
    /// # Errors
    /// The API server refuses, or the file cannot be written.
    pub async fn account_kubeconfig(&self, account: &str, namespace: &str) -> Result<PathBuf> {
        let token = self.service_account_token(account, namespace).await?;
        let path = self
            .folder()
            .join(format!("{namespace}-{account}.kubeconfig"));
        let user = serde_json::json!({ "token": token });
        write_kubeconfig(&path, self.port, &self.certificates.ca, &user, namespace)?;
        Ok(path)
    }

    /// Kills the API server, as an outage of the control plane would; etcd keeps what it stored.
    pub fn stop_api_server(&self) {
        // Not SIGTERM: it would run for another minute.
        drop(self.api_server.lock().take());
    }

    /// Starts the API server on the same port and data, and waits until it is ready.
    ///
    /// # Errors
    /// It runs already, or does not come up; the error shows its log.
    pub async fn start_api_server(&self) -> Result<()> {
        if self.api_server.lock().is_some() {
            bail!("the API server runs already");
        }
        let mut process = self.spawn_api_server()?;
        eventually_ok("the API server to be ready", START, async || {
            if let Some(status) = process.ended()? {
                // Becomes a value: no need to wait for the limit.
                return Ok(Err(status));
            }
            self.kubectl(&["get", "--raw", "/readyz"])
                .await?
                .success()
                .map(Ok)
        })
        .await
        .with_context(|| process.log())?
        .map_err(|status| anyhow::anyhow!("kube-apiserver ended ({status})\n{}", process.log()))?;
        *self.api_server.lock() = Some(process);
        Ok(())
    }

    fn spawn_api_server(&self) -> Result<Process> {
        let certificates = &self.certificates;
        let mut command = Command::new(tool("kube-apiserver")?);
        command
            .arg(format!("--etcd-servers={}", self.etcd_url))
            .args([
                "--bind-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
            ])
            .arg(format!("--secure-port={}", self.port))
            .arg(flag("--tls-cert-file", &certificates.server.certificate))
            .arg(flag("--tls-private-key-file", &certificates.server.key))
            .arg(flag("--client-ca-file", &certificates.ca))
            .arg(flag("--cert-dir", self.folder()))
            .args([
                "--service-cluster-ip-range=10.96.0.0/16",
                "--allow-privileged=true",
            ])
            .arg(format!("--service-account-issuer={ISSUER}"))
            .arg(flag(
                "--service-account-signing-key-file",
                &certificates.tokens,
            ))
            .arg(flag(
                "--service-account-key-file",
                &certificates.tokens_public,
            ))
            .arg("--authorization-mode=RBAC");
        Process::spawn("kube-apiserver", &mut command, self.folder())
    }

    /// The log of etcd, for error messages of tests.
    pub fn etcd_log(&self) -> String {
        self.etcd.log()
    }
}

async fn start_etcd(root: &Path) -> Result<(Process, String)> {
    let client = format!("http://127.0.0.1:{}", free_port()?);
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let mut command = Command::new(tool("etcd")?);
    command
        .arg(flag("--data-dir", &root.join("etcd")))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        // The data need not survive the machine, and flushes would dominate the cost.
        .arg("--unsafe-no-fsync");
    let mut etcd = Process::spawn("etcd", &mut command, root)?;
    etcd.wait_for_http(&format!("{client}/health"), START)
        .await?;
    Ok((etcd, client))
}

fn flag(name: &str, path: &Path) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(name);
    flag.push("=");
    flag.push(path);
    flag
}

/// JSON is YAML, so no quoting is needed here.
fn write_kubeconfig(
    path: &Path,
    port: u16,
    ca: &Path,
    user: &serde_json::Value,
    namespace: &str,
) -> Result<()> {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": ca,
        }}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "tests", "context": {
            "cluster": "tests", "user": "user", "namespace": namespace,
        }}],
        "current-context": "tests",
    });
    fs::write(path, config.to_string()).with_context(|| format!("write {}", path.display()))
}
