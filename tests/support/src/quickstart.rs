//! The quickstart of the README as real processes: `foundry-sim`, and `tundish run` in front of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Process, binary, free_port, workspace};

/// Where the manifests of the quickstart, and those of tests, have the simulated Foundry.
const SIM: &str = "127.0.0.1:8082";

const LIMIT: Duration = Duration::from_secs(20);

/// The quickstart's gateway and its simulated Foundry, on free ports and with a copy of the manifests that a
/// test may change. Both stop when it is dropped.
#[derive(Debug)]
pub struct Quickstart {
    /// `http://host:port` of the gateway.
    pub gateway: String,
    /// `http://host:port` of its admin port.
    pub admin: String,
    /// `http://host:port` of the simulated Foundry.
    pub sim: String,
    /// `tundish run`.
    pub run: Process,
    _sim: Process,
    /// Dropped last: the processes' logs are in it.
    folder: tempfile::TempDir,
}

impl Quickstart {
    /// Starts both, with `more` manifests beside the quickstart's own, each a file name and its text.
    ///
    /// # Errors
    /// A binary is not built, or a process does not become ready.
    pub async fn start(more: &[(&str, &str)]) -> Result<Self> {
        Self::launch(more, |program| Command::new(program)).await
    }

    /// The same, with a gateway that is started by this command: with more arguments, or within limits.
    /// The arguments of the quickstart are appended to it.
    ///
    /// # Errors
    /// See [`Quickstart::start`].
    pub async fn launch(
        more: &[(&str, &str)],
        gateway_command: impl FnOnce(&Path) -> Command,
    ) -> Result<Self> {
        let manifests = |folder: &Path, sim: &str| {
            copy_manifests(folder, sim)?;
            more.iter()
                .try_for_each(|(name, text)| write_manifest(folder, name, text, sim))
        };
        Self::assemble(manifests, &[], gateway_command).await
    }

    /// The same programs with one file of manifests instead of the quickstart's, and more arguments for the
    /// simulated Foundry.
    ///
    /// # Errors
    /// See [`Quickstart::start`].
    pub async fn with_manifests(text: &str, sim_arguments: &[&str]) -> Result<Self> {
        let manifests = |folder: &Path, sim: &str| {
            std::fs::create_dir(folder)?;
            write_manifest(folder, "manifests.yaml", text, sim)
        };
        Self::assemble(manifests, sim_arguments, |program| Command::new(program)).await
    }

    async fn assemble(
        write_manifests: impl FnOnce(&Path, &str) -> Result<()>,
        sim_arguments: &[&str],
        gateway_command: impl FnOnce(&Path) -> Command,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [gateway, admin, sim] =
            [free_port()?, free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let manifests = folder.path().join("manifests");
        write_manifests(&manifests, &sim)?;
        let mut command = Command::new(binary("foundry-sim")?);
        command.args(["--listen", &sim]).args(sim_arguments);
        let mut simulated = Process::spawn("foundry-sim", &mut command, folder.path())?;
        let [gateway_url, admin_url, sim_url] =
            [&gateway, &admin, &sim].map(|address| format!("http://{address}"));
        simulated
            .wait_for_http(&format!("{sim_url}/_sim/billed"), LIMIT)
            .await?;
        let mut command = gateway_command(&binary("tundish")?);
        // No balancer has to notice its end.
        command.env("TUNDISH_DRAIN_DELAY", "0");
        command.args(["run", "--listen", &gateway, "--admin", &admin]);
        command.arg("--manifests").arg(&manifests);
        let mut run = Process::spawn("tundish", &mut command, folder.path())?;
        run.wait_for_http(&format!("{admin_url}/readyz"), LIMIT)
            .await?;
        Ok(Self {
            gateway: gateway_url,
            admin: admin_url,
            sim: sim_url,
            run,
            _sim: simulated,
            folder,
        })
    }

    /// The folder of the manifests.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// The URL for chats of a client that speaks `/v1`.
    #[must_use]
    pub fn chat_url(&self) -> String {
        format!("{}/v1/chat/completions", self.gateway)
    }
}

/// Writes a manifest, with the simulated Foundry at `sim`.
fn write_manifest(folder: &Path, name: &str, text: &str, sim: &str) -> Result<()> {
    Ok(std::fs::write(folder.join(name), text.replace(SIM, sim))?)
}

/// Copies the manifests of the quickstart to a new folder, with a simulated Foundry at `sim`.
pub(crate) fn copy_manifests(folder: &Path, sim: &str) -> Result<()> {
    std::fs::create_dir(folder)?;
    for entry in std::fs::read_dir(workspace().join("examples/quickstart"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?.replace(SIM, sim);
        std::fs::write(folder.join(path.file_name().context("a name")?), text)?;
    }
    Ok(())
}
