//! The ground on which the other end-to-end tests stand: the real control plane does what they rely on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{ControlPlane, eventually_ok, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// A Deployment whose pods satisfy the restricted Pod Security standard.
fn restricted(name: &str, namespace: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "main", "image": "registry.invalid/main:1",
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}

#[tokio::test]
async fn a_deployment_gets_running_pods_also_where_pod_security_is_restricted() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane
        .namespace(
            "restricted",
            &["pod-security.kubernetes.io/enforce=restricted"],
        )
        .await?;
    plane
        .apply(&restricted("web", "restricted", 2).to_string())
        .await?;
    plane
        .wait("restricted", "deployment/web", "condition=Available", LIMIT)
        .await?;
    let pods = [
        "get",
        "pods",
        "-n",
        "restricted",
        "-o",
        "jsonpath={.items[*].status.phase}",
    ];
    assert_eq!(plane.kubectl(&pods).await?.success()?, "Running Running");
    Ok(())
}

#[tokio::test]
async fn pod_security_refuses_a_privileged_pod() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane
        .namespace(
            "refusing",
            &["pod-security.kubernetes.io/enforce=restricted"],
        )
        .await?;
    plane
        .wait("refusing", "serviceaccount/default", "create", LIMIT)
        .await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "root", "namespace": "refusing"},
        "spec": {"containers": [{
            "name": "main", "image": "registry.invalid/main:1", "securityContext": {"privileged": true},
        }]},
    });
    let refusal = plane.try_apply(&pod.to_string()).await?.failure()?;
    assert!(
        refusal.contains(r#"violates PodSecurity "restricted:latest": privileged"#),
        "{refusal}"
    );
    Ok(())
}

#[tokio::test]
async fn a_token_is_judged_by_its_audience() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane.namespace("tokens", &[]).await?;
    let token = plane.create_token("proxy", "tokens", "tundish").await?;

    let status = review(&plane, &token, "tundish").await?;
    assert_eq!(status["authenticated"], json!(true), "{status}");
    assert_eq!(
        status["user"]["username"],
        json!("system:serviceaccount:tokens:proxy")
    );
    assert_eq!(status["audiences"], json!(["tundish"]));

    let status = review(&plane, &token, "another").await?;
    assert_eq!(status["authenticated"], Value::Null, "{status}");
    Ok(())
}

async fn review(plane: &ControlPlane, token: &str, audience: &str) -> Result<Value> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    });
    let file = plane.folder().join(format!("review-{audience}.json"));
    std::fs::write(&file, review.to_string()).context("write the review")?;
    let file = file.to_str().context("the folder's name is not text")?;
    let answer = plane
        .kubectl(&["create", "-f", file, "-o", "json"])
        .await?
        .success()?;
    let answer: Value = serde_json::from_str(&answer).context("read the review")?;
    answer
        .get("status")
        .cloned()
        .context("the review has no status")
}

#[tokio::test]
async fn a_service_account_may_do_what_rbac_gives_it_and_nothing_more() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane.namespace("rbac", &[]).await?;
    let kubeconfig = plane.account_kubeconfig("reader", "rbac").await?;
    let kubeconfig = kubeconfig
        .to_str()
        .context("the folder's name is not text")?;
    plane
        .apply(
            r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: rbac}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: rbac}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: rbac}]
",
        )
        .await?;
    let list = |what| ["--kubeconfig", kubeconfig, "get", what, "-n", "rbac"];
    // The API server learns of a new role by a watch.
    eventually_ok("the role to be in force", LIMIT, async || {
        plane.kubectl(&list("configmaps")).await?.success()
    })
    .await?;
    let refusal = plane.kubectl(&list("secrets")).await?.failure()?;
    assert!(
        refusal.contains("Forbidden") && refusal.contains("rbac:reader"),
        "{refusal}"
    );
    Ok(())
}

#[tokio::test]
async fn objects_survive_an_outage_of_the_api_server() -> Result<()> {
    // One of its own: an outage would disturb the others.
    let plane = ControlPlane::start().await?;
    plane.namespace("kept", &[]).await?;
    plane.stop_api_server();
    let refusal = plane
        .kubectl(&["get", "namespace", "kept"])
        .await?
        .failure()?;
    assert!(refusal.contains("refused"), "{refusal}");
    plane.start_api_server().await?;
    plane
        .kubectl(&["get", "namespace", "kept"])
        .await?
        .success()?;
    Ok(())
}

#[tokio::test]
async fn the_crds_are_accepted_and_established() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let folder = workspace().join("crds/yaml");
    let path = folder
        .to_str()
        .context("the workspace's path is not text")?;
    plane
        .kubectl(&["apply", "--server-side", "-f", path])
        .await?
        .success()?;
    let names = ["aibackends", "airoutes", "aiquotas"];
    for name in names {
        let crd = format!("crd/{name}.tundish.dev");
        plane
            .wait("default", &crd, "condition=Established", LIMIT)
            .await?;
        // Nothing in the schema that the API server had to put up with.
        let type_ = r#"jsonpath={.status.conditions[?(@.type=="NonStructuralSchema")].message}"#;
        let complaint = plane
            .kubectl(&["get", &crd, "-o", type_])
            .await?
            .success()?;
        ensure!(complaint.is_empty(), "{crd}: {complaint}");
    }
    // Asks the API server again; `kubectl get` would use its cache.
    let kinds = ["api-resources", "--categories=tundish", "-o", "name"];
    eventually_ok("the category to be complete", LIMIT, async || {
        let listed = plane.kubectl(&kinds).await?.success()?;
        ensure!(listed.lines().count() == names.len(), "it has {listed:?}");
        Ok(())
    })
    .await?;
    for name in ["tundish", "aib", "air", "aiq"] {
        plane.kubectl(&["get", name, "-A"]).await?.success()?;
    }
    Ok(())
}
