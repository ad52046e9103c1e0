//! From a version to the next and back, with what others did to the objects in between.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests_support::{ControlPlane, workspace};

use crate::program::{HELMS, Helm};

/// What an operator made before the chart made it empty.
const AUTHORITY: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: tundish-ca, namespace: NAMESPACE}
stringData: {ca.crt: of-the-authority, ca.key: key}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: tundish-ca, namespace: NAMESPACE}
data: {ca.crt: of-the-authority}
";

/// The chart of the version before, as far as Helm is concerned.
fn version_before(folder: &Path) -> Result<PathBuf> {
    let copied = Command::new("cp")
        .arg("-R")
        .arg(workspace().join("charts"))
        .arg(folder)
        .status()
        .context("copy the charts")?;
    ensure!(copied.success(), "cp: {copied}");
    let chart = folder.join("charts/tundish");
    let file = chart.join("Chart.yaml");
    let text = std::fs::read_to_string(&file).context("read Chart.yaml")?;
    let (before, after) = text.split_once("\nversion: ").context("a version")?;
    let (_, after) = after.split_once('\n').context("more lines")?;
    std::fs::write(&file, format!("{before}\nversion: 0.0.9\n{after}")).context("write it")?;
    Ok(chart)
}

struct Release<'a> {
    name: &'a str,
    plane: &'a ControlPlane,
    helm: Helm,
    namespace: &'a str,
}

impl Release<'_> {
    fn upgrade(&self, chart: &str, values: &[&str]) -> Result<()> {
        let upgrade = ["upgrade", "--install", "tundish", chart, "-n"];
        let upgrade = [&upgrade[..], &[self.namespace], values].concat();
        self.helm.run(&upgrade).map(drop)
    }

    async fn get(&self, object: &str, path: &str) -> Result<String> {
        let path = format!("jsonpath={path}");
        let args = ["get", object, "-n", self.namespace, "-o", &path];
        self.plane.kubectl(&args).await?.success()
    }

    async fn replicas(&self) -> Result<String> {
        let proxy = "deployment/tundish-proxy";
        self.get(proxy, "{.spec.replicas}").await
    }

    /// The pod templates of both Deployments.
    async fn templates(&self) -> Result<String> {
        self.get("deployments", "{.items[*].spec.template}").await
    }
}

#[tokio::test]
async fn an_upgrade_restarts_no_pod_without_need_and_can_be_taken_back() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let folder = TempDir::with_prefix("tundish-charts-").context("make a folder")?;
    let before = version_before(folder.path())?;
    let before = before.to_str().context("the path is text")?;
    for name in HELMS {
        let namespace = format!("upgrade-{name}");
        plane.namespace(&namespace, &[]).await?;
        let release = Release {
            name,
            plane: &plane,
            helm: Helm::new(name, Some(&plane))?,
            namespace: &namespace,
        };
        let authority = AUTHORITY.replace("NAMESPACE", &namespace);
        plane.apply(&authority).await?;
        release.upgrade(before, &[])?;
        let templates = release.templates().await?;
        release.upgrade("tundish", &[])?;
        let after = release.templates().await?;
        assert_eq!(after, templates, "{name} restarts pods");
        assert_eq!(release.replicas().await?, "2", "{name}");
        scaled_and_taken_back(&release).await?;
        left_after_uninstall(&release).await?;
    }
    Ok(())
}

/// Whoever scaled the Deployment keeps the number, there and back again.
async fn scaled_and_taken_back(release: &Release<'_>) -> Result<()> {
    let proxy = "deployment/tundish-proxy";
    let scale = ["scale", proxy, "--replicas=4", "-n", release.namespace];
    release.plane.kubectl(&scale).await?.success()?;
    let scaler = ["--set=proxy.autoscaling.enabled=true"];
    release.upgrade("tundish", &scaler)?;
    assert_eq!(release.replicas().await?, "4");
    release.upgrade("tundish", &[])?;
    let rollback = ["rollback", "tundish", "3", "-n", release.namespace];
    release.helm.run(&rollback)?;
    assert_eq!(release.replicas().await?, "4");
    release.get("hpa/tundish-proxy", "{.metadata.name}").await?;
    // To the numbers of a revision from before, if that is what is wanted. Helm 4 would refuse it.
    let rollback = ["rollback", "tundish", "1", "-n", release.namespace];
    let by_force: &[&str] = match release.name {
        "helm3" => &[],
        _ => &["--force-conflicts"],
    };
    release.helm.run(&[&rollback[..], by_force].concat())?;
    assert_eq!(release.replicas().await?, "2");
    Ok(())
}

/// The key of ids, and what an operator made, stay; all else of the release is gone.
async fn left_after_uninstall(release: &Release<'_>) -> Result<()> {
    let key = release.get("secret/tundish-ca", "{.data}").await?;
    assert!(key.contains("ca.key"), "{key}");
    let uninstall = ["uninstall", "tundish", "-n", release.namespace];
    release.helm.run(&uninstall)?;
    let kinds = "secrets,configmaps,deployments,services,roles";
    let left = release.get(kinds, "{.items[*].metadata.name}").await?;
    let mut left: Vec<&str> = left.split_whitespace().collect();
    left.sort_unstable();
    let expected = [
        "kube-root-ca.crt",
        "tundish-ca",
        "tundish-ca",
        "tundish-state-keys",
    ];
    assert_eq!(left, expected);
    Ok(())
}

#[tokio::test]
async fn a_second_release_in_a_namespace_is_refused() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    for name in HELMS {
        let namespace = format!("crowded-{name}");
        plane.namespace(&namespace, &[]).await?;
        let helm = Helm::new(name, Some(&plane))?;
        helm.run(&["install", "one", "tundish", "-n", &namespace])?;
        let second = helm.call(&["install", "two", "tundish", "-n", &namespace])?;
        ensure!(!second.ok, "{name} installs a second one");
        let refusal = "has the release one";
        ensure!(second.text.contains(refusal), "{}", second.text);
        helm.run(&["uninstall", "one", "-n", &namespace])?;
    }
    Ok(())
}
