//! Each rule of the CRDs, judged by the real API server: a folder `crds/rules/CASE` holds an object
//! that is accepted, one that is refused, and the text with which it is. The refused one is applied
//! over the accepted one, so that a rule about changes is tested in the same way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests_support::{ControlPlane, workspace};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_rule_accepts_the_good_object_and_refuses_the_bad_one_with_its_message() -> Result<()>
{
    let plane = ControlPlane::start().await?;
    let crds = workspace().join("crds");
    plane
        .kubectl(&["apply", "--server-side", "-f", text(&crds.join("yaml"))?])
        .await?
        .success()?;
    for kind in ["aibackends", "airoutes", "aiquotas"] {
        let crd = format!("crd/{kind}.tundish.dev");
        plane
            .wait("default", &crd, "condition=Established", LIMIT)
            .await?;
    }

    let rules = crds.join("rules");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&rules).with_context(|| format!("list {}", rules.display()))? {
        cases.push(entry.context("list the cases")?.path());
    }
    cases.sort();
    ensure!(!cases.is_empty(), "no case in {}", rules.display());

    let mut failures = Vec::new();
    for case in &cases {
        if let Err(error) = check(&plane, case).await {
            failures.push(format!("{}: {error:#}", case.display()));
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    Ok(())
}

async fn check(plane: &ControlPlane, case: &Path) -> Result<()> {
    let name = case
        .file_name()
        .and_then(|name| name.to_str())
        .context("the name is not text")?;
    let namespace = format!("rule-{}", name.replace('_', "-").to_lowercase());
    plane.namespace(&namespace, &[]).await?;
    let (good, bad) = (case.join("good.yaml"), case.join("bad.yaml"));
    let apply = async |file: &Path| {
        plane
            .kubectl(&["apply", "-n", &namespace, "-f", text(file)?])
            .await
    };
    apply(&good).await?.success()?;
    let refusal = apply(&bad).await?.failure()?;
    let message = fs::read_to_string(case.join("message.txt")).context("read message.txt")?;
    ensure!(!message.trim().is_empty(), "message.txt is empty");
    if !refusal.contains(message.trim()) {
        bail!("expected {:?} in {refusal:?}", message.trim());
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the workspace's path is not text")
}
