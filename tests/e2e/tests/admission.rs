//! The chart's ValidatingAdmissionPolicy on the real API server.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_support::{ControlPlane, eventually_ok, tool, workspace};

const LIMIT: Duration = Duration::from_secs(60);
const HOME: &str = "tundish-system";

const BACKEND: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: NAME, namespace: NAMESPACE, labels: {round: ROUND}}
spec:
  type: Foundry
  endpoint: ENDPOINT
  auth: {type: PassThrough}
  deployments: [{name: gpt-4o}]
";

const MESSAGE: &str = "evil.example is no host that this installation allows, which are \
                       *.services.ai.azure.com, apim.contoso.com; use one of these, or have the platform \
                       team add it to backends.allowedHosts";

fn backend(name: &str, namespace: &str, round: &str, endpoint: &str) -> String {
    BACKEND
        .replace("NAMESPACE", namespace)
        .replace("NAME", name)
        .replace("ROUND", round)
        .replace("ENDPOINT", endpoint)
}

/// The policy and its binding, for an installation that watches `team` too.
fn policy() -> Result<String> {
    let output = Command::new(tool("helm")?)
        .current_dir(workspace().join("charts"))
        .args(["template", "tundish", "tundish", "-n", HOME])
        .args(["--kube-version=v1.33.0", "--set=watch.namespaces={team}"])
        .args(["--set=backends.allowedHosts={*.services.ai.azure.com,apim.contoso.com}"])
        .args(["--set=backends.admissionPolicy.enabled=true"])
        .args(["-s", "templates/admissionpolicy.yaml"])
        .output()
        .context("start helm")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("helm writes text")
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_refused_when_it_is_applied() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let crds = workspace().join("crds/yaml");
    let crds = crds.to_str().context("the path is text")?;
    plane
        .kubectl(&["apply", "--server-side", "-f", crds])
        .await?
        .success()?;
    let crd = "crd/aibackends.tundish.dev";
    plane
        .wait("default", crd, "condition=Established", LIMIT)
        .await?;
    for namespace in [HOME, "team", "other"] {
        plane.namespace(namespace, &[]).await?;
    }
    let evil = |round: &str| backend("before", "team", round, "https://evil.example");
    plane.apply(&evil("one")).await?;
    plane.apply(&policy()?).await?;

    // The API server takes a moment to put a policy in force.
    let refused = backend("new", "team", "one", "https://evil.example");
    let refusal = eventually_ok("the policy is in force", LIMIT, async || {
        let gone = ["delete", "aib", "new", "-n", "team", "--ignore-not-found"];
        plane.kubectl(&gone).await?.success()?;
        plane.try_apply(&refused).await?.failure()
    });
    let refusal = refusal.await?;
    assert!(refusal.contains(MESSAGE), "{refusal}");

    for (name, endpoint, is_allowed) in [
        ("foundry", "https://contoso.services.ai.azure.com", true),
        (
            "case",
            "https://Contoso.Services.AI.Azure.com:8443/prefix",
            true,
        ),
        ("front", "https://apim.contoso.com", true),
        (
            "suffix",
            "https://services.ai.azure.com.evil.example",
            false,
        ),
        ("apex", "https://services.ai.azure.com", false),
        ("below", "https://x.apim.contoso.com", false),
        ("address", "https://10.0.0.4", false),
    ] {
        let answer = plane
            .try_apply(&backend(name, "team", "one", endpoint))
            .await?;
        if is_allowed {
            answer.success().context(endpoint)?;
        } else {
            answer.failure().context(endpoint)?;
        }
    }
    // An object from before keeps its endpoint, and may change otherwise.
    plane.apply(&evil("two")).await?;
    let moved = backend("before", "team", "two", "https://other.example");
    plane.try_apply(&moved).await?.failure()?;
    // Namespaces of other installations are not its business.
    plane
        .apply(&backend("new", "other", "one", "https://evil.example"))
        .await?;
    Ok(())
}
