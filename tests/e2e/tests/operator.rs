//! The operator on the real API server: what it reports, and that it keeps still when nothing
//! changes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::{
    BACKENDS_HERE, ControlPlane, Process, binary, eventually_ok, free_port, http, workspace,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A leader that was killed is replaced within this time: the lease's fifteen seconds and two looks.
const TAKEOVER: Duration = Duration::from_secs(20);

/// Namespace of the installation in every test.
const HOME: &str = "tundish-system";

/// A route, its backend and its quota, all as they should be.
const GOOD: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: foundry, namespace: team}
stringData: {api-key: not-a-real-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: foundry, namespace: team}
spec:
  type: Foundry
  endpoint: https://contoso.services.ai.azure.com
  auth: {type: APIKey, apiKey: {secretRef: {name: foundry, key: api-key}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat, namespace: team}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules:
  - name: chat
    matches: [{models: [gpt-4o]}]
    backendRefs: [{name: foundry, deployment: gpt-4o}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: minute, namespace: team}
spec:
  targetRefs: [{group: tundish.dev, kind: AIRoute, name: chat}]
  limits: [{name: minute, unit: Tokens, limit: 1000, window: Minute}]
";

/// A route that leads nowhere.
const BAD: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: broken, namespace: team}
spec:
  hostnames: [broken.example.com]
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules:
  - name: chat
    backendRefs: [{name: missing}]
";

/// A control plane with the CRDs, and the namespaces.
async fn plane() -> Result<ControlPlane> {
    let plane = ControlPlane::start().await?;
    let folder = workspace().join("crds/yaml");
    let folder = folder
        .to_str()
        .context("the workspace's path is not text")?;
    plane
        .kubectl(&["apply", "--server-side", "-f", folder])
        .await?
        .success()?;
    for kind in ["aibackends", "airoutes", "aiquotas"] {
        let crd = format!("crd/{kind}.tundish.dev");
        plane
            .wait("default", &crd, "condition=Established", LIMIT)
            .await?;
    }
    for namespace in [HOME, "team"] {
        plane.namespace(namespace, &[]).await?;
    }
    Ok(plane)
}

struct Operator {
    process: Process,
    admin: String,
}

impl Operator {
    /// Starts an operator, and waits until it is ready.
    async fn start(plane: &ControlPlane, name: &str) -> Result<Self> {
        Self::of(plane, HOME, name).await
    }

    /// The same of the installation in this namespace.
    async fn of(plane: &ControlPlane, home: &str, name: &str) -> Result<Self> {
        let program: PathBuf = binary("tundish-operator")?;
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(plane.kubeconfig())
            .args(["--namespace", home, "--identity", name])
            .args(["--admin", &admin, BACKENDS_HERE])
            .arg("--channel-listen")
            .arg(format!("127.0.0.1:{}", free_port()?))
            .args(["--log-format", "text"]);
        let mut process = Process::spawn(name, &mut command, plane.folder())?;
        let ready = format!("http://{admin}/readyz");
        process.wait_for_http(&ready, LIMIT).await?;
        Ok(Self { process, admin })
    }

    /// The sum of the metrics whose line contains `what`; 0 if there is none.
    async fn metric(&self, what: &str) -> Result<f64> {
        let page = http::get(&format!("http://{}/metrics", self.admin)).await?;
        let page = page.text();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter(|line| line.contains(what))
            .filter_map(|line| line.rsplit(' ').next())
            .map(|value| value.parse::<f64>().context("read a metric"))
            .sum()
    }
}

async fn condition(plane: &ControlPlane, object: &str, type_: &str) -> Result<Value> {
    let json = plane
        .kubectl(&["get", object, "-n", "team", "-o", "json"])
        .await?
        .success()?;
    let json: Value = serde_json::from_str(&json).context("read the object")?;
    let conditions = json.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = conditions.with_context(|| format!("{object} has no conditions"))?;
    let found = conditions.iter().find(|one| one["type"] == type_);
    found
        .cloned()
        .with_context(|| format!("{object} has no {type_}: {conditions:?}"))
}

async fn versions(plane: &ControlPlane) -> Result<String> {
    let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion";
    let kinds = "aibackends,airoutes,aiquotas,configmaps,events,secrets";
    plane
        .kubectl(&["get", kinds, "-A", "--no-headers", "-o", columns])
        .await?
        .success()
}

async fn holder(plane: &ControlPlane) -> Result<String> {
    let path = "jsonpath={.spec.holderIdentity}";
    plane
        .kubectl(&["get", "lease", "tundish-operator", "-n", HOME, "-o", path])
        .await?
        .success()
}

#[tokio::test]
async fn every_object_gets_its_conditions_and_a_bad_one_disturbs_nobody() -> Result<()> {
    let plane = plane().await?;
    plane.apply(GOOD).await?;
    let operator = Operator::start(&plane, "operator").await?;
    plane
        .wait("team", "aib/foundry", "condition=Ready", LIMIT)
        .await?;
    for object in ["air/chat", "aiq/minute"] {
        plane
            .wait("team", object, "condition=Accepted", LIMIT)
            .await?;
        // There is no proxy that could have it.
        let programmed = condition(&plane, object, "Programmed").await?;
        assert_eq!(programmed["status"], "False", "{programmed}");
        assert_eq!(programmed["reason"], "Pending", "{programmed}");
        assert_eq!(programmed["observedGeneration"], 1, "{programmed}");
    }
    plane
        .wait("team", "air/chat", "condition=ResolvedRefs", LIMIT)
        .await?;
    let before = condition(&plane, "air/chat", "Accepted").await?;

    plane.apply(BAD).await?;
    plane
        .wait("team", "air/broken", "condition=ResolvedRefs=false", LIMIT)
        .await?;
    plane
        .wait("team", "air/broken", "condition=Reconciling", LIMIT)
        .await?;
    let resolved = condition(&plane, "air/broken", "ResolvedRefs").await?;
    assert_eq!(resolved["reason"], "BackendNotFound", "{resolved}");
    assert!(
        resolved["message"]
            .as_str()
            .is_some_and(|text| text.contains("backendRefs[0]")),
        "{resolved}"
    );
    // One event says so.
    let events = [
        "get",
        "events",
        "-n",
        "team",
        "--field-selector=involvedObject.name=broken,type=Warning",
        "-o",
        "jsonpath={range .items[*]}{.reason}{'\\n'}{end}",
    ];
    eventually_ok("the event", LIMIT, async || {
        let events = plane.kubectl(&events).await?.success()?;
        ensure!(events == "BackendNotFound\n", "there is {events:?}");
        Ok(())
    })
    .await?;
    // The others are as they were.
    assert_eq!(condition(&plane, "air/chat", "Accepted").await?, before);
    plane
        .wait("team", "aib/foundry", "condition=Ready", LIMIT)
        .await?;

    // Once mended, nothing is left of it.
    plane.apply(&BAD.replace("missing", "foundry")).await?;
    plane
        .wait("team", "air/broken", "condition=ResolvedRefs", LIMIT)
        .await?;
    eventually_ok("Reconciling to be gone", LIMIT, async || {
        ensure!(
            condition(&plane, "air/broken", "Reconciling")
                .await
                .is_err(),
            "it is there"
        );
        Ok(())
    })
    .await?;

    let ended = operator.process.terminate(LIMIT).await?;
    assert!(ended.success(), "{ended}");
    // The lease was given back, so that the next one need not wait.
    assert_eq!(holder(&plane).await?, "");
    Ok(())
}

#[tokio::test]
async fn nothing_is_written_while_nothing_changes() -> Result<()> {
    let plane = plane().await?;
    plane.apply(GOOD).await?;
    plane.apply(BAD).await?;
    let operator = Operator::start(&plane, "resting").await?;
    plane
        .wait("team", "air/broken", "condition=Reconciling", LIMIT)
        .await?;
    plane
        .wait("team", "aiq/minute", "condition=Accepted", LIMIT)
        .await?;
    let bundle = "jsonpath={.data.ca\\.crt}";
    eventually_ok("the CA certificate for the proxies", LIMIT, async || {
        let map = ["get", "cm", "tundish-ca", "-n", HOME, "-o", bundle];
        let text = plane.kubectl(&map).await?.success()?;
        ensure!(text.contains("BEGIN CERTIFICATE"), "it is {text:?}");
        Ok(())
    })
    .await?;
    eventually_ok("the event", LIMIT, async || {
        ensure!(
            operator.metric("event_writes_total").await? >= 1.0,
            "none yet"
        );
        Ok(())
    })
    .await?;
    let before = versions(&plane).await?;
    let writes = operator.metric("status_writes_total").await?;
    assert!(writes >= 4.0, "one per object, {writes}");

    // A change that means nothing passes through everything, and leaves no trace: when it has been
    // compiled, whatever wanted to be written before has been.
    let compilations = operator.metric("compilations_total").await?;
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: unrelated, namespace: team}}";
    plane.apply(secret).await?;
    eventually_ok("it to be compiled", LIMIT, async || {
        let now = operator.metric("compilations_total").await?;
        ensure!(now > compilations, "{now} compilations");
        Ok(())
    })
    .await?;
    // Two renewals of the lease, which is the one thing that does change.
    for _ in 0..2 {
        let path = "jsonpath={.spec.renewTime}";
        let lease = ["get", "lease", "tundish-operator", "-n", HOME, "-o", path];
        let renewed = plane.kubectl(&lease).await?.success()?;
        eventually_ok("the lease to be renewed", LIMIT, async || {
            let now = plane.kubectl(&lease).await?.success()?;
            ensure!(now != renewed, "it is of {now}");
            Ok(())
        })
        .await?;
    }
    let after = versions(&plane).await?;
    let after: Vec<&str> = after.lines().filter(|l| !l.contains("unrelated")).collect();
    let before: Vec<&str> = before.lines().collect();
    assert_eq!(after, before);
    assert_eq!(
        operator.metric("status_writes_total").await?.to_bits(),
        writes.to_bits()
    );
    Ok(())
}

#[tokio::test]
async fn when_the_leader_is_killed_another_one_goes_on_with_the_status() -> Result<()> {
    let plane = plane().await?;
    let first = Operator::start(&plane, "first").await?;
    eventually_ok("the first to lead", LIMIT, async || {
        ensure!(holder(&plane).await? == "first", "it does not");
        Ok(())
    })
    .await?;
    let second = Operator::start(&plane, "second").await?;
    plane.apply(GOOD).await?;
    plane
        .wait("team", "aib/foundry", "condition=Ready", LIMIT)
        .await?;
    assert_eq!(
        second.metric("is_leader").await?.to_bits(),
        0.0_f64.to_bits()
    );
    let before = condition(&plane, "aib/foundry", "Ready").await?;

    first.process.kill();
    plane.apply(BAD).await?;
    plane
        .wait("team", "air/broken", "condition=Reconciling", TAKEOVER)
        .await?;
    assert_eq!(holder(&plane).await?, "second");
    // Nothing that was right is written again.
    assert_eq!(condition(&plane, "aib/foundry", "Ready").await?, before);
    Ok(())
}

#[tokio::test]
async fn an_operator_outlives_an_outage_of_the_api_server() -> Result<()> {
    let plane = plane().await?;
    plane.apply(GOOD).await?;
    let operator = Operator::start(&plane, "survivor").await?;
    plane
        .wait("team", "aib/foundry", "condition=Ready", LIMIT)
        .await?;
    plane.stop_api_server();
    plane.start_api_server().await?;
    plane.apply(BAD).await?;
    plane
        .wait("team", "air/broken", "condition=Reconciling", 2 * LIMIT)
        .await?;
    let ready = http::get(&format!("http://{}/readyz", operator.admin)).await?;
    assert_eq!(ready.status, 200, "it stays ready: proxies need its table");
    Ok(())
}

/// What the operator needs of Gateway API's ReferenceGrant. The name's domain is protected, so the
/// API server asks where it was approved.
const GRANT_CRD: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: referencegrants.gateway.networking.k8s.io
  annotations:
    api-approved.kubernetes.io: https://github.com/kubernetes-sigs/gateway-api/pull/1538
spec:
  group: gateway.networking.k8s.io
  names: {kind: ReferenceGrant, plural: referencegrants, singular: referencegrant}
  scope: Namespaced
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

/// A route of one namespace that wants the backend of another.
const ABROAD: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: abroad, namespace: team}
spec:
  authentication: {anonymous: {}}
  rules:
  - name: chat
    backendRefs: [{name: shared, namespace: other, deployment: gpt-4o}]
";

const SHARED: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: shared, namespace: other}
spec:
  type: Foundry
  endpoint: https://contoso.services.ai.azure.com
  auth: {type: None}
  deployments: [{name: gpt-4o, model: gpt-4o}]
";

const GRANT: &str = r"
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: routes-of-team, namespace: other}
spec:
  from: [{group: tundish.dev, kind: AIRoute, namespace: team}]
  to: [{group: tundish.dev, kind: AIBackend, name: shared}]
";

#[tokio::test]
async fn another_namespaces_backend_needs_a_grant_and_loses_it_with_the_grant() -> Result<()> {
    let plane = plane().await?;
    plane.namespace("other", &[]).await?;
    plane.apply(GRANT_CRD).await?;
    let crd = "crd/referencegrants.gateway.networking.k8s.io";
    plane
        .wait("default", crd, "condition=Established", LIMIT)
        .await?;
    plane.apply(ABROAD).await?;
    let _operator = Operator::start(&plane, "operator").await?;
    let resolved = async |status: &str| {
        let wanted = format!("condition=ResolvedRefs={status}");
        plane.wait("team", "air/abroad", &wanted, LIMIT).await?;
        condition(&plane, "air/abroad", "ResolvedRefs").await
    };
    let before = resolved("False").await?;
    assert_eq!(before["reason"], "RefNotPermitted", "{before}");
    // Whether the backend exists must not be told without a grant.
    plane.apply(SHARED).await?;
    plane
        .wait("other", "aib/shared", "condition=Ready", LIMIT)
        .await?;
    let exists = condition(&plane, "air/abroad", "ResolvedRefs").await?;
    assert_eq!(exists["message"], before["message"], "{exists}");
    plane.apply(GRANT).await?;
    resolved("True").await?;
    let grant = ["delete", "referencegrant", "routes-of-team", "-n", "other"];
    plane.kubectl(&grant).await?.success()?;
    let revoked = resolved("False").await?;
    assert_eq!(revoked["reason"], "RefNotPermitted", "{revoked}");
    Ok(())
}

#[tokio::test]
async fn two_installations_do_not_fight_over_a_status() -> Result<()> {
    let plane = plane().await?;
    plane.namespace("green", &[]).await?;
    plane.apply(GOOD).await?;
    let blue = Operator::start(&plane, "blue").await?;
    plane
        .wait("team", "aib/foundry", "condition=Ready", LIMIT)
        .await?;
    let green = Operator::of(&plane, "green", "green").await?;
    eventually_ok("the second one to see the claim", LIMIT, async || {
        let others = green.metric("namespaces_of_others").await?;
        ensure!(others.to_bits() == 1.0_f64.to_bits(), "there are {others}");
        Ok(())
    })
    .await?;
    // It is known to both, and written by one.
    plane.apply(BAD).await?;
    plane
        .wait("team", "air/broken", "condition=Reconciling", LIMIT)
        .await?;
    let writes = green.metric("status_writes").await?;
    assert!(writes < 0.5, "it wrote {writes}");
    let line = "another installation writes the statuses";
    assert!(
        green.process.log().contains(line),
        "{}",
        green.process.log()
    );

    // The first one is uninstalled, and its claim with it.
    blue.process.kill();
    let claim = ["delete", "lease", "tundish-status", "-n", "team"];
    plane.kubectl(&claim).await?.success()?;
    plane.apply(&BAD.replace("missing", "foundry")).await?;
    plane
        .wait("team", "air/broken", "condition=ResolvedRefs", 2 * LIMIT)
        .await
}

#[tokio::test]
async fn crds_that_are_deleted_and_made_again_are_watched_again() -> Result<()> {
    let plane = plane().await?;
    plane.apply(GOOD).await?;
    let operator = Operator::start(&plane, "operator").await?;
    plane
        .wait("team", "aib/foundry", "condition=Ready", LIMIT)
        .await?;
    let folder = workspace().join("crds/yaml");
    let folder = folder.to_str().context("the path is not text")?;
    plane.kubectl(&["delete", "-f", folder]).await?.success()?;
    let ready = format!("http://{}/readyz", operator.admin);
    eventually_ok("every kind to be missed", LIMIT, async || {
        let text = http::get(&ready).await?.text();
        let missed = ["AIBackend", "AIRoute", "AIQuota"]
            .map(|kind| text.contains(&format!("{kind} has not been watched")));
        ensure!(missed == [true; 3], "it says {text:?}");
        Ok(())
    })
    .await?;
    let apply = ["apply", "--server-side", "-f", folder];
    plane.kubectl(&apply).await?.success()?;
    for kind in ["aibackends", "airoutes", "aiquotas"] {
        let crd = format!("crd/{kind}.tundish.dev");
        plane
            .wait("default", &crd, "condition=Established", LIMIT)
            .await?;
    }
    eventually_ok("the objects to be taken", LIMIT, async || {
        plane.try_apply(GOOD).await?.success()
    })
    .await?;
    for object in ["aib/foundry", "air/chat", "aiq/minute"] {
        plane
            .wait("team", object, "condition=Accepted", LIMIT)
            .await?;
    }
    let text = http::get(&ready).await?.text();
    assert!(text.contains("every kind is watched"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_ca_that_is_deleted_is_stored_again() -> Result<()> {
    let plane = plane().await?;
    let _operator = Operator::start(&plane, "operator").await?;
    let get = |what: &'static str, path: &'static str| {
        ["get", what, "tundish-ca", "-n", HOME, "-o", path]
    };
    let secret = get("secret", "jsonpath={.data.ca\\.key}");
    let map = get("configmap", "jsonpath={.data.ca\\.crt}");
    let mut before = Vec::new();
    for one in [secret, map] {
        let text = eventually_ok("the CA", LIMIT, async || {
            plane.kubectl(&one).await?.success()
        });
        before.push(text.await?);
    }
    for what in ["secret", "configmap"] {
        let delete = ["delete", what, "tundish-ca", "-n", HOME];
        plane.kubectl(&delete).await?.success()?;
    }
    for (one, before) in [secret, map].into_iter().zip(before) {
        eventually_ok("the same CA", LIMIT, async || {
            let after = plane.kubectl(&one).await?.success()?;
            ensure!(after == before, "it is another one");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn objects_without_an_operator_say_that_they_wait_for_one() -> Result<()> {
    let plane = plane().await?;
    plane.apply(GOOD).await?;
    for object in ["aib/foundry", "air/chat", "aiq/minute"] {
        let ready = condition(&plane, object, "Ready").await?;
        assert_eq!(
            (&ready["status"], &ready["reason"]),
            (&"Unknown".into(), &"Pending".into())
        );
    }
    let by_type = [
        "get",
        "aib",
        "-A",
        "--field-selector",
        "spec.type=Foundry",
        "-o",
        "name",
    ];
    let found = plane.kubectl(&by_type).await?.success()?;
    assert_eq!(found.trim(), "aibackend.tundish.dev/foundry");
    let _operator = Operator::start(&plane, "operator").await?;
    plane
        .wait("team", "aib/foundry", "condition=Ready", LIMIT)
        .await
}
