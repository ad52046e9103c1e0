//! kubectl, the only client of the control plane: tests can do what a user can do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Output {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    command: String,
}

#[derive(Debug)]
pub(super) struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
    /// The discovery cache; the default is shared by all clusters of a user.
    pub(super) cache: PathBuf,
}

/// Longest call, above the longest `kubectl wait` of a test.
const PATIENCE: Duration = Duration::from_secs(180);

impl Kubectl {
    pub(super) async fn call<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<Output> {
        let words: Vec<_> = args
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        let command = format!("kubectl {}", words.join(" "));
        tokio::time::timeout(PATIENCE, self.spawn(args, input, &command))
            .await
            .with_context(|| format!("{command}: it hangs"))?
            .context(command)
    }

    async fn spawn<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        input: &str,
        command: &str,
    ) -> Result<Output> {
        let mut child = Command::new(&self.program)
            .env("KUBECONFIG", &self.kubeconfig)
            .env_remove("KUBECTL_COMMAND_HEADERS")
            .arg("--cache-dir")
            .arg(&self.cache)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", Path::new(&self.program).display()))?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        let feed = async {
            // kubectl may refuse its arguments before it has read all input: its output says so.
            drop(stdin.write_all(input.as_bytes()).await);
            drop(stdin);
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.context("read the answer")?;
        Ok(Output {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: command.to_owned(),
        })
    }
}

// === impl Output ===

impl Output {
    /// The standard output of a command that must have succeeded.
    ///
    /// # Errors
    /// It failed; the error shows the command and what it wrote.
    pub fn success(self) -> Result<String> {
        if !self.ok {
            bail!("{}: {}{}", self.command, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// The standard error of a command that must have failed.
    ///
    /// # Errors
    /// It succeeded.
    pub fn failure(self) -> Result<String> {
        if self.ok {
            bail!("{} succeeded: {}", self.command, self.stdout);
        }
        Ok(self.stderr)
    }
}
