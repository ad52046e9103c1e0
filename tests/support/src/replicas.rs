//! Several `tundish run`, as replicas of one gateway: in front of one `foundry-sim`, or of what the test has.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Process, binary, free_port, http, quickstart};

const LIMIT: Duration = Duration::from_secs(20);

/// Replicas that serve from one folder of manifests. All stop when it is dropped.
#[derive(Debug)]
pub struct Replicas {
    /// `http://host:port` of the simulated Foundry; empty if the test has its own.
    pub sim: String,
    replicas: Vec<Replica>,
    arguments: Vec<String>,
    _sim: Option<Process>,
    /// Dropped last: the processes' logs are in it.
    folder: tempfile::TempDir,
}

/// One of them.
#[derive(Debug)]
pub struct Replica {
    /// `http://host:port` of the gateway.
    pub gateway: String,
    /// `http://host:port` of its admin port.
    pub admin: String,
    name: String,
    /// `tundish run`, while it runs.
    run: Option<Process>,
}

impl Replicas {
    /// Starts `count` of them that serve the quickstart's routes, with `quotas` as `quota.yaml`, and `arguments` of `tundish run`;
    /// `simulator` are arguments of `foundry-sim`.
    ///
    /// # Errors
    /// A binary is not built, or a process does not become ready.
    pub async fn start(
        count: usize,
        quotas: &str,
        arguments: &[&str],
        simulator: &[&str],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let sim = format!("127.0.0.1:{}", free_port()?);
        let manifests = folder.path().join("manifests");
        quickstart::copy_manifests(&manifests, &sim)?;
        std::fs::write(manifests.join("quota.yaml"), quotas)?;
        let mut command = Command::new(binary("foundry-sim")?);
        command.args(["--listen", &sim]).args(simulator);
        let mut simulated = Process::spawn("foundry-sim", &mut command, folder.path())?;
        let sim = format!("http://{sim}");
        simulated
            .wait_for_http(&format!("{sim}/_sim/billed"), LIMIT)
            .await?;
        Self::launched(count, arguments, (sim, Some(simulated)), folder).await
    }

    /// Starts `count` of them with these manifests, and `arguments` of `tundish run`.
    ///
    /// # Errors
    /// A binary is not built, or a process does not become ready.
    pub async fn with_manifests(count: usize, text: &str, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        std::fs::write(manifests.join("all.yaml"), text)?;
        Self::launched(count, arguments, (String::new(), None), folder).await
    }

    async fn launched(
        count: usize,
        arguments: &[&str],
        (sim, simulated): (String, Option<Process>),
        folder: tempfile::TempDir,
    ) -> Result<Self> {
        let mut replicas = Vec::new();
        for index in 0..count {
            let [gateway, admin] =
                [free_port()?, free_port()?].map(|port| format!("http://127.0.0.1:{port}"));
            replicas.push(Replica {
                gateway,
                admin,
                name: format!("tundish-{index}"),
                run: None,
            });
        }
        let mut all = Self {
            sim,
            replicas,
            arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
            _sim: simulated,
            folder,
        };
        for index in 0..count {
            all.launch(index)?;
        }
        for replica in &mut all.replicas {
            replica.ready().await?;
        }
        Ok(all)
    }

    /// `HAProxy` in front of them by this configuration, in which `LISTEN` is its address, and which ends with the
    /// section of its servers. Returns its URL, too.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn balancer(&self, configuration: &str) -> Result<(Process, String)> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let mut text = configuration.replace("LISTEN", &listen);
        for (index, replica) in self.replicas.iter().enumerate() {
            let gateway = replica.gateway.trim_start_matches("http://");
            let (_, port) = replica.admin.rsplit_once(':').context("a port")?;
            text.push_str(&format!("  server r{index} {gateway} port {port}\n"));
        }
        let file = self.folder.path().join("haproxy.cfg");
        std::fs::write(&file, text)?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file);
        let process = Process::spawn("haproxy", &mut command, self.folder.path())?;
        Ok((process, format!("http://{listen}")))
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let manifests = self.manifests();
        let folder = self.folder.path();
        let replica = self.replicas.get_mut(index).context("no such replica")?;
        let mut command = Command::new(binary("tundish")?);
        command.arg("run");
        for (flag, url) in [("--listen", &replica.gateway), ("--admin", &replica.admin)] {
            command.args([flag, url.trim_start_matches("http://")]);
        }
        command.args(["--threads", "1"]).args(&self.arguments);
        command.arg("--manifests").arg(&manifests);
        // No balancer has to notice its end, unless the arguments say so.
        command.env("TUNDISH_DRAIN_DELAY", "0");
        replica.run = Some(Process::spawn(&replica.name, &mut command, folder)?);
        Ok(())
    }

    /// Starts one that was stopped, at its addresses, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.launch(index)?;
        let replica = self.replicas.get_mut(index).context("no such replica")?;
        replica.ready().await
    }

    /// The folder of the manifests that all of them follow.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// All of them, the stopped ones included.
    #[must_use]
    pub fn all(&self) -> &[Replica] {
        &self.replicas
    }

    /// One of them.
    ///
    /// # Panics
    /// The index is out of range.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a test knows how many it started")]
    pub fn at(&self, index: usize) -> &Replica {
        &self.replicas[index]
    }

    /// Kills one (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.take(index)?.kill();
        Ok(())
    }

    /// Asks one to stop (SIGTERM), and waits until it exits.
    ///
    /// # Errors
    /// It does not run, or still runs after `grace`.
    pub async fn terminate(&mut self, index: usize, grace: Duration) -> Result<ExitStatus> {
        self.take(index)?.terminate(grace).await
    }

    fn take(&mut self, index: usize) -> Result<Process> {
        let replica = self.replicas.get_mut(index).context("no such replica")?;
        replica.run.take().context("it was stopped before")
    }
}

impl Replica {
    /// The URL for chats of a client that speaks `/v1`.
    #[must_use]
    pub fn chat_url(&self) -> String {
        format!("{}/v1/chat/completions", self.gateway)
    }

    /// The sum of a metric's samples, whatever their labels; 0 if there are none.
    ///
    /// # Errors
    /// The admin port does not answer, or a sample is not a number.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = http::get(&format!("{}/metrics", self.admin)).await?.text();
        let samples = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = rest.rsplit_once(' ')?.1;
            rest.starts_with([' ', '{']).then_some(value)
        });
        samples
            .map(|value| value.parse::<f64>().context("read a sample"))
            .sum()
    }

    /// Its output so far; empty once it is stopped.
    #[must_use]
    pub fn log(&self) -> String {
        self.run.as_ref().map(Process::log).unwrap_or_default()
    }

    async fn ready(&mut self) -> Result<()> {
        let ready = format!("{}/readyz", self.admin);
        let run = self.run.as_mut().context("it was stopped")?;
        run.wait_for_http(&ready, LIMIT).await
    }
}
