//! `tundish run`, beside the cluster.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tests_foundry::{CLIENT, IDENTITY_HEADER, TENANT};
use tests_support::{Process, binary, free_port};

use super::known::{NOT_BASE64, UNREADABLE, manifests};
use crate::installation::LIMIT;

/// One gateway.
pub(super) struct Alone {
    pub(super) process: Process,
    pub(super) url: String,
    pub(super) admin: String,
}

/// A `tundish run` over the same objects, and some that it cannot read.
pub(super) async fn run(
    folder: &Path,
    sim: &str,
    bound: &str,
    more: &[(&str, &Path)],
) -> Result<Alone> {
    let objects = folder.join("manifests");
    std::fs::create_dir_all(&objects)?;
    std::fs::write(objects.join("objects.yaml"), manifests(sim))?;
    std::fs::write(objects.join("bound.yaml"), bound)?;
    let unreadable = format!("kind: Secret\nstringData: {{key: {UNREADABLE}\n- [");
    std::fs::write(objects.join("unreadable.yaml"), unreadable)?;
    let not_base64 = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: x, namespace: leaks, labels: {{keys: all}}}}\n\
         data: {{key: '{NOT_BASE64}', other: ['{NOT_BASE64}']}}\n"
    );
    std::fs::write(objects.join("not-base64.yaml"), not_base64)?;
    let address = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
    let (listen, admin) = (address()?, address()?);
    let mut command = Command::new(binary("tundish")?);
    command.args([
        "run",
        "--listen",
        &listen,
        "--admin",
        &admin,
        "--log-level",
        "trace",
    ]);
    command.args(["--threads", "1", "--log-format", "json"]);
    command.arg("--manifests").arg(&objects);
    for (flag, file) in more {
        command.arg(flag).arg(file);
    }
    command.envs(cloud(sim, folder));
    let mut alone = Alone {
        process: Process::spawn("run", &mut command, folder)?,
        url: format!("http://{listen}"),
        admin: format!("http://{admin}"),
    };
    let ready = format!("{}/readyz", alone.admin);
    alone.process.wait_for_http(&ready, LIMIT).await?;
    Ok(alone)
}

/// What the webhook of workload identity and an App Service put into the environment.
pub(super) fn cloud(sim: &str, folder: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("AZURE_AUTHORITY_HOST", format!("{sim}/")),
        ("AZURE_TENANT_ID", TENANT.to_owned()),
        ("AZURE_CLIENT_ID", CLIENT.to_owned()),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            folder.join("assertion").display().to_string(),
        ),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", sim.to_owned()),
        ("IDENTITY_ENDPOINT", format!("{sim}/msi/token")),
        ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
    ]
}
