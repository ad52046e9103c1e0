//! The program helm.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests_support::{ControlPlane, tool, workspace};

/// Both majors are in use.
pub(crate) const HELMS: [&str; 2] = ["helm", "helm3"];

/// The oldest that the charts allow; helm3 without a cluster takes an older one for granted.
pub(crate) const OLDEST: &str = "--kube-version=v1.33.0";

/// Everything that values can switch on, of what the API server knows by itself.
pub(crate) const EVERYTHING: &str = "--values=../tests/e2e/tests/helm/everything.yaml";

/// What needs custom resources of other projects.
pub(crate) const CUSTOM: &str = "--values=../tests/e2e/tests/helm/custom.yaml";

/// A helm that keeps its files to itself.
pub(crate) struct Helm {
    program: PathBuf,
    home: TempDir,
    kubeconfig: Option<PathBuf>,
}

pub(crate) struct Answer {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Helm {
    pub(crate) fn new(name: &str, plane: Option<&ControlPlane>) -> Result<Self> {
        Ok(Self {
            program: tool(name)?,
            home: TempDir::with_prefix("tundish-helm-").context("make a folder")?,
            kubeconfig: plane.map(|plane| plane.kubeconfig().to_owned()),
        })
    }

    pub(crate) fn call(&self, args: &[&str]) -> Result<Answer> {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(workspace().join("charts"));
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.path());
        }
        command.env(
            "KUBECONFIG",
            self.kubeconfig.as_deref().unwrap_or_else(|| "/".as_ref()),
        );
        let output = command
            .output()
            .with_context(|| format!("start {}", self.program.display()))?;
        let text = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        Ok(Answer {
            ok: output.status.success(),
            text: String::from_utf8(text).context("helm writes text")?,
        })
    }

    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        let answer = self.call(args)?;
        ensure!(answer.ok, "helm {}: {}", args.join(" "), answer.text);
        Ok(answer.text)
    }

    /// The manifests of release `tundish` in `tundish-system`.
    pub(crate) fn template(&self, args: &[&str]) -> Result<String> {
        let words = [
            "template",
            "tundish",
            "tundish",
            "-n",
            "tundish-system",
            OLDEST,
        ];
        self.run(&[&words, args].concat())
    }
}
