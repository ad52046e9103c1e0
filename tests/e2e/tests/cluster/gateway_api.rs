//! Gateways and ReferenceGrants on an API server of their own, which learns of Gateway API while the operator runs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::{ControlPlane, eventually_ok, http, workspace};

use crate::installation::{Installation, LIMIT, Operator, SOON, chat};
use crate::parts::Proxy;

/// The namespace of the installation, as the example has it.
const HOME: &str = "tundish-system";

/// The page whose example is applied.
const DOCS: &str = include_str!("../../../../docs/gateway-api.md");

const HOST: &str = "search.ai.example.com";

/// What the example needs: the GatewayClass and the Service are as in the chart.
const AROUND: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tundish}
spec: {controllerName: tundish.dev/gateway-controller}
---
apiVersion: v1
kind: Service
metadata: {name: tundish, namespace: tundish-system}
spec: {ports: [{name: http, port: 80}], selector: {app: none}}
";

const SEARCH: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: foundry, namespace: NAMESPACE}
spec:
  type: Foundry
  endpoint: SIM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim, namespace: NAMESPACE}
stringData: {api-key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: ann, namespace: NAMESPACE, labels: {tundish.dev/keys: chat}}
stringData: {key: NAMESPACE-key}
";

/// A route of a namespace that no listener allows, and Gateways that are not to be served.
const REFUSED: &str = r#"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat, namespace: evil}
spec:
  parentRefs: [{name: edge, namespace: tundish-system}]
  hostnames: [search.ai.example.com]
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules: [{name: chat, backendRefs: [{name: foundry}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: own, namespace: evil}
spec:
  gatewayClassName: tundish
  listeners: [{name: all, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: foreign, namespace: tundish-system}
spec:
  gatewayClassName: other
  listeners: [{name: all, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: partly, namespace: tundish-system}
spec:
  gatewayClassName: tundish
  listeners:
  - {name: ok, port: 80, protocol: HTTP, hostname: ok.example.com}
  - {name: port, port: 8080, protocol: HTTP}
  - {name: tcp, port: 81, protocol: TCP}
  - name: tls
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [{name: cert}]}
"#;

/// A route of `search` to the backend of another namespace, and the grant that it needs.
const ACROSS: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: across, namespace: search}
spec:
  hostnames: [across.example.com]
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules: [{name: chat, backendRefs: [{name: foundry, namespace: evil}]}]
";
const GRANT: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: search, namespace: evil}
spec:
  from: [{group: tundish.dev, kind: AIRoute, namespace: search}]
  to: [{group: tundish.dev, kind: AIBackend}]
";

struct Scene {
    plane: Arc<ControlPlane>,
    installation: Installation,
    proxies: [Proxy; 2],
    operator: Operator,
}

impl Scene {
    /// Everything runs, and Gateway API is not installed.
    async fn start() -> Result<Self> {
        let plane = Arc::new(ControlPlane::start().await?);
        for namespace in ["search", "evil"] {
            plane.namespace(namespace, &[]).await?;
        }
        let values = ["gatewayApi.enabled=true", "watch.namespaces={search,evil}"];
        let sim = Installation::prepare_with(Arc::clone(&plane), HOME, &[], &values);
        let mut installation = sim.await?;
        installation.watched = vec!["search", "evil"];
        installation.environment = vec![
            ("TUNDISH_GATEWAY_CLASS", "tundish".to_owned()),
            ("TUNDISH_GATEWAY_SERVICE", "tundish".to_owned()),
        ];
        let operator = installation.operator(0).await?;
        let proxies = installation.proxies().await?;
        Ok(Self {
            plane,
            installation,
            proxies,
            operator,
        })
    }

    async fn apply(&self, manifests: &str) -> Result<()> {
        let sim = &self.installation.sim.url;
        self.plane.apply(&manifests.replace("SIM", sim)).await?;
        Ok(())
    }

    async fn install_gateway_api(&self) -> Result<()> {
        let path = workspace().join("tests/e2e/tests/cluster/gateway-api-crds.yaml");
        let path = path.to_str().context("the path is not text")?;
        let apply = ["apply", "--server-side", "-f", path];
        self.plane.kubectl(&apply).await?.success()?;
        for kind in ["gatewayclasses", "gateways", "referencegrants"] {
            let crd = format!("crd/{kind}.gateway.networking.k8s.io");
            let established = "condition=Established";
            self.plane.wait("default", &crd, established, LIMIT).await?;
        }
        Ok(())
    }

    async fn get(&self, namespace: &str, object: &str) -> Result<Value> {
        let get = ["get", object, "-n", namespace, "-o", "json"];
        let json = self.plane.kubectl(&get).await?.success()?;
        serde_json::from_str(&json).context("read the object")
    }

    async fn delete(&self, namespace: &str, object: &str) -> Result<()> {
        let delete = ["delete", object, "-n", namespace, "--wait=false"];
        self.plane.kubectl(&delete).await?.success()?;
        Ok(())
    }

    /// Waits until a condition among those at `path` of an object is so, as in `Accepted=True Accepted`.
    async fn condition(
        &self,
        (namespace, object): (&str, &str),
        path: &str,
        expected: &str,
    ) -> Result<()> {
        let what = format!("{expected} at {path} of {object} in {namespace}");
        eventually_ok(&what, LIMIT, async || {
            let stored = self.get(namespace, object).await?;
            let words = words(stored.pointer(path).unwrap_or(&Value::Null));
            ensure!(words.iter().any(|one| one == expected), "{words:?}");
            Ok(())
        })
        .await
    }

    /// Waits until every proxy answers so to a request for a host: at once, or after a moment.
    async fn answers(&self, host: &str, key: &str, status: u16, limit: Duration) -> Result<()> {
        for proxy in &self.proxies {
            let what = format!("{status} for {host}");
            eventually_ok(&what, limit, async || {
                let answer = ask(proxy, host, key).await?;
                ensure!(
                    answer.status == status,
                    "{}: {}",
                    answer.status,
                    answer.text()
                );
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

async fn ask(proxy: &Proxy, host: &str, key: &str) -> Result<http::Answer> {
    let url = format!("{}/v1/chat/completions", proxy.url);
    http::post_json(&url, &[("api-key", key), ("host", host)], chat("gpt-4o")).await
}

/// `TYPE=STATUS REASON` of each condition; every one is of the object's generation.
fn words(conditions: &Value) -> Vec<String> {
    let words = conditions.as_array().into_iter().flatten().map(|one| {
        let word = |field: &str| one.get(field).and_then(Value::as_str).unwrap_or_default();
        format!("{}={} {}", word("type"), word("status"), word("reason"))
    });
    words.collect()
}

/// The one example of the page.
fn example() -> Result<&'static str> {
    let (_, rest) = DOCS.split_once("```yaml\n").context("no example")?;
    let (yaml, _) = rest.split_once("```").context("the example does not end")?;
    Ok(yaml)
}

const ROUTE: (&str, &str) = ("search", "airoute/chat");
const EDGE: (&str, &str) = (HOME, "gateway/edge");
const OF_PARENT: &str = "/status/parents/0/conditions";
const CONDITIONS: &str = "/status/conditions";

#[tokio::test(flavor = "multi_thread")]
async fn gateways_hand_hosts_to_the_namespaces_that_they_allow() -> Result<()> {
    let scene = Scene::start().await?;
    for namespace in ["search", "evil"] {
        scene.apply(&SEARCH.replace("NAMESPACE", namespace)).await?;
    }
    // What is known before Gateway API is.
    let route = example()?.split("---\n").last().context("no route")?;
    scene.apply(route).await?;
    scene
        .condition(ROUTE, CONDITIONS, "Accepted=False UnsupportedValue")
        .await?;

    scene.install_gateway_api().await?;
    scene.apply(AROUND).await?;
    scene.apply(example()?).await?;
    let class = ("default", "gatewayclass/tundish");
    scene
        .condition(class, CONDITIONS, "Accepted=True Accepted")
        .await?;
    scene
        .condition(class, CONDITIONS, "SupportedVersion=True SupportedVersion")
        .await?;
    scene
        .condition(EDGE, CONDITIONS, "Accepted=True Accepted")
        .await?;
    scene
        .condition(EDGE, CONDITIONS, "Programmed=True Programmed")
        .await?;
    scene
        .condition(ROUTE, OF_PARENT, "Accepted=True Accepted")
        .await?;
    scene
        .condition(ROUTE, OF_PARENT, "ResolvedRefs=True ResolvedRefs")
        .await?;
    scene
        .condition(ROUTE, CONDITIONS, "Ready=True Ready")
        .await?;
    scene.answers(HOST, "search-key", 200, SOON).await?;
    // The key is known, and no route of its namespace has the host.
    scene
        .answers("other.example.com", "search-key", 404, SOON)
        .await?;

    refusals(&scene).await?;

    // A label, the Gateway and a restarted operator.
    let label = |value: &'static str| ["label", "--overwrite", "namespace", "search", value];
    scene
        .plane
        .kubectl(&label("ai-gateway=no"))
        .await?
        .success()?;
    scene.answers(HOST, "search-key", 503, SOON).await?;
    scene
        .plane
        .kubectl(&label("ai-gateway=allowed"))
        .await?
        .success()?;
    scene.answers(HOST, "search-key", 200, SOON).await?;
    scene.delete(HOME, "gateway/edge").await?;
    scene.answers(HOST, "search-key", 503, SOON).await?;
    scene
        .condition(ROUTE, OF_PARENT, "Accepted=False NoMatchingParent")
        .await?;
    scene.apply(example()?).await?;
    scene.answers(HOST, "search-key", 200, SOON).await?;
    api_server_away(&scene).await?;
    restarted(scene).await
}

/// The watches come back after the API server, and follow changes.
async fn api_server_away(scene: &Scene) -> Result<()> {
    scene.plane.stop_api_server();
    scene.plane.start_api_server().await?;
    let label = [
        "label",
        "--overwrite",
        "namespace",
        "search",
        "ai-gateway=no",
    ];
    eventually_ok("the label to take effect", LIMIT, async || {
        scene.plane.kubectl(&label).await?.success()?;
        let answer = ask(&scene.proxies[0], HOST, "search-key").await?;
        ensure!(answer.status == 503, "{}: {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    let reason = "Accepted=False NotAllowedByListeners";
    scene.condition(ROUTE, OF_PARENT, reason).await?;
    let label = [
        "label",
        "--overwrite",
        "namespace",
        "search",
        "ai-gateway=allowed",
    ];
    scene.plane.kubectl(&label).await?.success()?;
    scene.answers(HOST, "search-key", 200, SOON).await
}

async fn refusals(scene: &Scene) -> Result<()> {
    scene.apply(REFUSED).await?;
    let route = ("evil", "airoute/chat");
    scene
        .condition(route, OF_PARENT, "Accepted=False NotAllowedByListeners")
        .await?;
    scene.answers(HOST, "evil-key", 503, SOON).await?;
    scene.answers(HOST, "search-key", 200, SOON).await?;
    let own = ("evil", "gateway/own");
    scene
        .condition(own, CONDITIONS, "Accepted=False Invalid")
        .await?;
    let partly = (HOME, "gateway/partly");
    scene
        .condition(partly, CONDITIONS, "Accepted=True ListenersNotValid")
        .await?;
    let of = |listener: usize| format!("/status/listeners/{listener}/conditions");
    scene
        .condition(partly, &of(0), "Programmed=True Programmed")
        .await?;
    scene
        .condition(partly, &of(1), "Accepted=False PortUnavailable")
        .await?;
    scene
        .condition(partly, &of(2), "Accepted=False UnsupportedProtocol")
        .await?;
    scene
        .condition(partly, &of(3), "ResolvedRefs=False InvalidCertificateRef")
        .await?;
    let foreign = scene.get(HOME, "gateway/foreign").await?;
    let untouched = words(foreign.pointer(CONDITIONS).unwrap_or(&Value::Null));
    ensure!(
        untouched.iter().all(|one| one.contains("=Unknown ")),
        "{untouched:?}"
    );

    let edge = scene.get(HOME, "gateway/edge").await?;
    let at = |path: &str| edge.pointer(path).cloned().unwrap_or_default();
    ensure!(at("/status/listeners/0/attachedRoutes") == 1, "{edge}");
    ensure!(
        at("/status/listeners/0/supportedKinds/0/kind") == "AIRoute",
        "{edge}"
    );
    let address = at("/status/addresses/0/value");
    let service = scene.get(HOME, "service/tundish").await?;
    ensure!(
        service.pointer("/spec/clusterIP") == Some(&address),
        "{edge}"
    );
    ensure!(
        at("/status/conditions/0/observedGeneration") == at("/metadata/generation"),
        "{edge}"
    );
    Ok(())
}

/// An operator that starts serves no table without the Gateways, and writes no status again.
async fn restarted(scene: Scene) -> Result<()> {
    let Scene {
        plane,
        installation,
        proxies,
        operator,
    } = scene;
    let version = async || {
        let get = [
            "get",
            "gateway/edge",
            "-n",
            HOME,
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ];
        plane.kubectl(&get).await?.success()
    };
    let wait = async || {
        let programmed = "condition=Programmed";
        plane.wait(HOME, "gateway/edge", programmed, LIMIT).await
    };
    wait().await?;
    let before = version().await?;
    drop(operator);
    let _operator = installation.operator(1).await?;
    for _ in 0..20 {
        let answer = ask(&proxies[0], HOST, "search-key").await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    }
    wait().await?;
    let after = version().await?;
    ensure!(
        before == after,
        "the status was written again: {before}, {after}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_grant_takes_effect_and_ends_within_two_seconds() -> Result<()> {
    let scene = Scene::start().await?;
    for namespace in ["search", "evil"] {
        scene.apply(&SEARCH.replace("NAMESPACE", namespace)).await?;
    }
    scene.apply(ACROSS).await?;
    let host = "across.example.com";
    let route = ("search", "airoute/across");
    scene
        .condition(route, CONDITIONS, "ResolvedRefs=False RefNotPermitted")
        .await?;
    scene.answers(host, "search-key", 503, SOON).await?;
    scene.install_gateway_api().await?;
    scene.apply(GRANT).await?;
    scene.answers(host, "search-key", 200, SOON).await?;
    scene.delete("evil", "referencegrant/search").await?;
    scene.answers(host, "search-key", 503, SOON).await?;
    scene
        .condition(route, CONDITIONS, "ResolvedRefs=False RefNotPermitted")
        .await?;
    Ok(())
}
