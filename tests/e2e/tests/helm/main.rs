//! The charts, with the real helm on the real API server: what is rendered is accepted, starts where
//! Pod Security is restricted, may do what it has to and nothing more, and goes away again.

mod pod;
mod program;
mod upgrades;
mod values;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use expect_test::expect_file;
use tests_support::{ControlPlane, Process, binary, eventually_ok, free_port, tool};

use crate::program::{EVERYTHING, Helm};

const LIMIT: Duration = Duration::from_secs(60);

/// The namespaces of the installation, of a team whose objects it watches, and of one whose it does not.
const HOME: &str = "tundish-system";
const TEAM: &str = "team";
const OTHER: &str = "other";

/// The release's own namespace need not be named.
const WATCHED: &str = "--set=watch.namespaces={team}";

/// Everything of ours but the CRDs is one of these.
const OURS: &str = "deployments,replicasets,pods,services,serviceaccounts,roles,rolebindings,\
                    poddisruptionbudgets,networkpolicies";

const ROUTE: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat, namespace: team}
spec:
  authentication: {anonymous: {}}
  rules: [{name: chat, backendRefs: [{name: missing}]}]
";

#[tokio::test]
async fn an_installation_runs_is_upgraded_and_leaves_nothing_but_the_crds() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let helm = Helm::new("helm", Some(&plane))?;
    let restricted = ["pod-security.kubernetes.io/enforce=restricted"];
    for namespace in [HOME, TEAM, OTHER] {
        plane.namespace(namespace, &restricted).await?;
    }
    let crds = [
        "upgrade",
        "--install",
        "tundish-crds",
        "tundish-crds",
        "-n",
        HOME,
    ];
    helm.run(&crds)?;
    for kind in ["aibackends", "airoutes", "aiquotas"] {
        let crd = format!("crd/{kind}.tundish.dev");
        plane
            .wait(HOME, &crd, "condition=Established", LIMIT)
            .await?;
    }
    accepts_every_variant(&plane, &helm)?;

    let tundish = [
        "upgrade",
        "--install",
        "tundish",
        "tundish",
        "-n",
        HOME,
        WATCHED,
    ];
    let wait = ["--wait", "--timeout=60s"];
    helm.run(&[&tundish[..], &wait].concat())?;
    runs(&plane, 2).await?;
    grants_what_it_has_to_and_nothing_more(&plane).await?;
    the_operator_works_with_what_it_is_granted(&plane).await?;
    lets_nodes_be_drained(&plane).await?;

    let changed = [
        "--set=operator.replicas=1,proxy.replicas=1",
        "--set=proxy.logLevel=debug",
    ];
    helm.run(&[&tundish[..], &wait, &changed].concat())?;
    runs(&plane, 1).await?;
    let pods = get(&plane, "pods", "{..args}").await?;
    assert!(pods.contains("--log-level=debug"), "{pods}");
    lets_nodes_be_drained(&plane).await?;
    keeps_the_number_of_who_scaled(&plane, &helm, &tundish).await?;

    for release in ["tundish", "tundish-crds"] {
        helm.run(&["uninstall", release, "-n", HOME, "--wait"])?;
    }
    nothing_is_left(&plane).await?;
    let crds_left = plane
        .kubectl(&["get", "crd", "-o", "name"])
        .await?
        .success()?;
    assert_eq!(crds_left.lines().count(), 3, "{crds_left}");
    plane
        .kubectl(&["get", "airoute", "chat", "-n", TEAM])
        .await?
        .success()?;
    // Who comes back finds them, and may have them as a part of the release.
    let helm3 = Helm::new("helm3", Some(&plane))?;
    let with_crds = ["--set=crds.enabled=true", "--take-ownership"];
    helm3.run(&[&tundish[..], &wait, &with_crds].concat())?;
    runs(&plane, 2).await?;
    helm3.run(&["uninstall", "tundish", "-n", HOME, "--wait"])?;
    nothing_is_left(&plane).await?;
    let kept = ["get", "airoute", "chat", "-n", TEAM];
    plane.kubectl(&kept).await?.success()?;
    helm.run(&[&crds[..], &["--take-ownership"]].concat())?;
    Ok(())
}

#[tokio::test]
async fn two_installations_do_not_get_in_each_others_way() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let helm = Helm::new("helm", Some(&plane))?;
    for namespace in ["first", "second"] {
        plane.namespace(namespace, &[]).await?;
        let install = ["install", "gateway", "tundish", "-n", namespace];
        helm.run(&[&install[..], &["--set=watch.allNamespaces=true"]].concat())?;
    }
    for namespace in ["first", "second"] {
        helm.run(&["uninstall", "gateway", "-n", namespace])?;
    }
    Ok(())
}

/// The API server takes what is rendered, with every field known to it.
fn accepts_every_variant(plane: &ControlPlane, helm: &Helm) -> Result<()> {
    for args in [&[][..], &[WATCHED], &[EVERYTHING]] {
        let file = plane.folder().join("rendered.yaml");
        std::fs::write(&file, helm.template(args)?).context("write what was rendered")?;
        let mut command = Command::new(tool("kubectl")?);
        command
            .env("KUBECONFIG", plane.kubeconfig())
            .args(["apply", "--dry-run=server", "--validate=strict", "-f"])
            .arg(&file);
        let output = command.output().context("start kubectl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        // What is not refused may still be warned about, such as pods that are not restricted.
        ensure!(
            output.status.success() && errors.is_empty(),
            "{args:?}: {errors}"
        );
    }
    Ok(())
}

async fn get(plane: &ControlPlane, kinds: &str, path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    let args = [
        "get",
        kinds,
        "-n",
        HOME,
        "-l",
        "app.kubernetes.io/instance=tundish",
        "-o",
        &path,
    ];
    plane.kubectl(&args).await?.success()
}

/// Every Deployment is available with this number of replicas, and no pod is in another phase than Running.
async fn runs(plane: &ControlPlane, replicas: usize) -> Result<()> {
    for name in ["deployment/tundish-operator", "deployment/tundish-proxy"] {
        plane.wait(HOME, name, "condition=Available", LIMIT).await?;
    }
    let expected = vec!["Running"; replicas * 2];
    eventually_ok("the pods to run", LIMIT, async || {
        let phases = get(plane, "pods", "{.items[*].status.phase}").await?;
        let phases: Vec<_> = phases.split_whitespace().collect();
        ensure!(phases == expected, "they are {phases:?}");
        Ok(())
    })
    .await
}

async fn grants_what_it_has_to_and_nothing_more(plane: &ControlPlane) -> Result<()> {
    let operator = rights(plane, "tundish-operator", &[HOME, TEAM, OTHER]).await?;
    expect_file!["operator-can-i.txt"].assert_eq(&operator);
    let proxy = rights(plane, "tundish-proxy", &[HOME, TEAM, OTHER]).await?;
    expect_file!["proxy-can-i.txt"].assert_eq(&proxy);
    let anybody = rights(plane, "default", &[HOME, TEAM, OTHER]).await?;
    assert_eq!(
        proxy, anybody,
        "the proxies' account has a right of its own"
    );
    Ok(())
}

/// What the account may do in each namespace, a line for each right.
async fn rights(plane: &ControlPlane, account: &str, namespaces: &[&str]) -> Result<String> {
    let mut text = String::new();
    for namespace in namespaces {
        let user = format!("--as=system:serviceaccount:{HOME}:{account}");
        let args = [
            "auth",
            "can-i",
            "--list",
            "--no-headers",
            "-n",
            namespace,
            &user,
        ];
        let list = plane.kubectl(&args).await?.success()?;
        let lines: BTreeSet<String> = list.lines().map(in_order).collect();
        text.push_str(&format!("# in {namespace}\n"));
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// A line of `can-i --list` with its verbs sorted: the API server names them in the order in which it
/// comes by the roles.
fn in_order(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((right, verbs)) = line.trim_end_matches(']').rsplit_once('[') else {
        return line;
    };
    let verbs: BTreeSet<&str> = verbs.split(' ').collect();
    format!(
        "{right}[{}]",
        verbs.into_iter().collect::<Vec<_>>().join(" ")
    )
}

/// A real operator, as the chart's account, becomes ready, makes its CA and reports.
async fn the_operator_works_with_what_it_is_granted(plane: &ControlPlane) -> Result<()> {
    let kubeconfig = plane.account_kubeconfig("tundish-operator", HOME).await?;
    let admin = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(binary("tundish-operator")?);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--namespace", HOME, "--watch-namespace", HOME])
        // It has no Role in the last one, as where a namespace was deleted.
        .args(["--watch-namespace", TEAM, "--watch-namespace", OTHER])
        .args(["--identity=test", "--admin", &admin])
        .arg(format!("--channel-listen=127.0.0.1:{}", free_port()?));
    let mut operator = Process::spawn("operator", &mut command, plane.folder())?;
    operator
        .wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
        .await?;
    let metrics = tests_support::http::get(&format!("http://{admin}/metrics")).await?;
    let left_out = format!("tundish_operator_namespaces_left_out{{namespace=\"{OTHER}\"}} 1");
    ensure!(
        String::from_utf8_lossy(&metrics.body).contains(&left_out),
        "no metric says that a namespace is left out"
    );
    plane.apply(ROUTE).await?;
    plane
        .wait(HOME, "configmap/tundish-ca", "create", LIMIT)
        .await?;
    plane
        .wait(TEAM, "airoute/chat", "condition=ResolvedRefs=False", LIMIT)
        .await?;
    plane
        .wait(HOME, "lease/tundish-operator", "create", LIMIT)
        .await?;
    let events = [
        "get",
        "events",
        "-n",
        TEAM,
        "-o",
        "jsonpath={.items[*].involvedObject.name}",
    ];
    eventually_ok("the event of the route", LIMIT, async || {
        let about = plane.kubectl(&events).await?.success()?;
        ensure!(about.contains("chat"), "they are about {about:?}");
        Ok(())
    })
    .await?;
    operator.terminate(LIMIT).await?;
    Ok(())
}

/// An upgrade meets no conflict with `kubectl scale` or an autoscaler, and changes nothing of theirs.
async fn keeps_the_number_of_who_scaled(
    plane: &ControlPlane,
    helm: &Helm,
    upgrade: &[&str],
) -> Result<()> {
    let proxy = "deployment/tundish-proxy";
    let replicas = async || {
        let get = ["get", proxy, "-n", HOME, "-o", "jsonpath={.spec.replicas}"];
        plane.kubectl(&get).await?.success()
    };
    // Not scaled yet: an autoscaler begins at what is there.
    let ones = ["--set=operator.replicas=1,proxy.replicas=1"];
    let leaves = [
        "--set=operator.replicas=1",
        "--set-json=proxy.replicas=null",
    ];
    helm.run(&[upgrade, &leaves].concat())?;
    assert_eq!(replicas().await?, "1");
    let scale = ["scale", proxy, "-n", HOME, "--replicas=3"];
    plane.kubectl(&scale).await?.success()?;
    for values in [
        &ones[..],
        &leaves,
        &["--set=proxy.autoscaling.enabled=true"],
    ] {
        let other = ["--set=proxy.podAnnotations.changed=yes"];
        helm.run(&[upgrade, values, &other].concat())?;
        assert_eq!(replicas().await?, "3", "{values:?}");
    }
    let scaler = [
        "get",
        "hpa/tundish-proxy",
        "-n",
        HOME,
        "-o",
        "jsonpath={.spec.maxReplicas}",
    ];
    assert_eq!(plane.kubectl(&scaler).await?.success()?, "10");
    plane
        .kubectl(&["scale", proxy, "-n", HOME, "--replicas=1"])
        .await?
        .success()?;
    helm.run(&[upgrade, &ones, &["--wait", "--timeout=60s"]].concat())?;
    runs(plane, 1).await
}

/// No budget stands in the way of a drain, not even of a single replica.
async fn lets_nodes_be_drained(plane: &ControlPlane) -> Result<()> {
    eventually_ok("the budgets to allow a disruption", LIMIT, async || {
        let path = "{.items[*].status.disruptionsAllowed}";
        let allowed = get(plane, "poddisruptionbudgets", path).await?;
        ensure!(allowed == "1 1", "they allow {allowed:?}");
        Ok(())
    })
    .await
}

async fn nothing_is_left(plane: &ControlPlane) -> Result<()> {
    eventually_ok("everything to be gone", LIMIT, async || {
        let label = "app.kubernetes.io/instance=tundish";
        let releases = "owner=helm,name=tundish";
        for (kinds, label) in [
            (OURS, label),
            ("clusterroles,clusterrolebindings", label),
            ("secrets", releases),
        ] {
            let left = ["get", kinds, "-A", "-l", label, "-o", "name"];
            let left = plane.kubectl(&left).await?.success()?;
            let left: Vec<_> = left.lines().filter(|name| !name.is_empty()).collect();
            if !left.is_empty() {
                bail!("{left:?} are left");
            }
        }
        Ok(())
    })
    .await
}
