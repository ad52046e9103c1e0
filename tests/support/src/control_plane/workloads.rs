//! The parts that run workloads: controllers, scheduler, and kwok with one node.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{ControlPlane, START, flag};
use crate::{Process, free_port, tool};

/// Controllers that need a cloud, a pod network or volumes do not run. The node-lifecycle controller does:
/// without it every node keeps its not-ready taint and no pod is scheduled.
const CONTROLLERS: &str = "*,-node-ipam-controller,-node-route-controller,-service-lb-controller,\
    -cloud-node-lifecycle-controller,-ttl-controller,-persistentvolume-attach-detach-controller,\
    -persistentvolume-binder-controller,-persistentvolume-expander-controller";

const NODE: &str = r"
apiVersion: v1
kind: Node
metadata:
  name: node
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {kubernetes.io/hostname: node, kubernetes.io/os: linux, kubernetes.io/arch: amd64}
status:
  capacity: &resources {cpu: '32', memory: 64Gi, pods: '500'}
  allocatable: *resources
";

impl ControlPlane {
    /// Adds controllers, scheduler, kwok and one node, and waits until the node is ready.
    ///
    /// # Errors
    /// A program is missing (`make tools` builds it) or does not come up; the error shows its log.
    pub async fn with_workloads(mut self) -> Result<Self> {
        self.workloads = start(&self).await?;
        Ok(self)
    }
}

async fn start(plane: &ControlPlane) -> Result<Vec<Process>> {
    let processes = vec![controllers(plane)?, scheduler(plane)?, kwok(plane)?];
    plane.apply(NODE).await?;
    let ready = plane
        .wait("default", "node/node", "condition=Ready", START)
        .await;
    let logs = || {
        processes
            .iter()
            .map(Process::log)
            .collect::<Vec<_>>()
            .join("\n---\n")
    };
    ready.with_context(logs)?;
    // Every pod names it, and admission refuses pods until the controllers have created it.
    let account = "serviceaccount/default";
    plane
        .wait("default", account, "create", Duration::from_secs(30))
        .await
        .with_context(logs)?;
    Ok(processes)
}

fn controllers(plane: &ControlPlane) -> Result<Process> {
    let mut command = component(plane, "kube-controller-manager")?;
    command
        .args(["--use-service-account-credentials", "--leader-elect=false"])
        .arg(flag(
            "--service-account-private-key-file",
            &plane.certificates.tokens,
        ))
        .arg(flag("--root-ca-file", plane.ca_file()))
        .arg(flag("--cert-dir", plane.folder()))
        .arg(format!("--controllers={CONTROLLERS}"));
    Process::spawn("kube-controller-manager", &mut command, plane.folder())
}

fn scheduler(plane: &ControlPlane) -> Result<Process> {
    let mut command = component(plane, "kube-scheduler")?;
    command
        .arg("--leader-elect=false")
        .arg(flag("--cert-dir", plane.folder()));
    Process::spawn("kube-scheduler", &mut command, plane.folder())
}

fn component(plane: &ControlPlane, name: &str) -> Result<Command> {
    let mut command = Command::new(tool(name)?);
    command
        .arg(flag("--kubeconfig", plane.kubeconfig()))
        .args([
            "--authentication-skip-lookup=true",
            "--bind-address=127.0.0.1",
        ])
        .arg(format!("--secure-port={}", free_port()?));
    Ok(command)
}

fn kwok(plane: &ControlPlane) -> Result<Process> {
    let mut command = Command::new(tool("kwok")?);
    command
        .arg(flag("--kubeconfig", plane.kubeconfig()))
        .args([
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
        ])
        .arg("--node-ip=127.0.0.1")
        .arg(format!("--server-address=127.0.0.1:{}", free_port()?));
    for stage in stages()? {
        let mut flag = OsString::from("--config=");
        flag.push(stage);
        command.arg(flag);
    }
    Process::spawn("kwok", &mut command, plane.folder())
}

fn stages() -> Result<Vec<OsString>> {
    let folder = tool("kwok-stages")?;
    let mut stages = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        stages.push(
            entry
                .context("list the stages of kwok")?
                .path()
                .into_os_string(),
        );
    }
    stages.sort();
    Ok(stages)
}
