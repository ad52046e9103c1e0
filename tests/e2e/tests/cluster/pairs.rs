//! Two parts away at once, of all that a gateway needs: what proxies that run go on with, and what one has that
//! starts meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::{CLIENT, SECRET, TENANT};
use tests_support::{ControlPlane, Fault, FaultProxy, Names, Redis};
use tokio::time::Instant;

use crate::installation::{ANN, GOOD, Installation, LIMIT, Operator, Token, route};
use crate::load::Load;
use crate::parts::Proxy;
use crate::snapshot::{mount, newest};

/// Whose requests need the store.
const BEN: &str = "ben-key";
/// Answered requests of the load while two parts are away.
const ANSWERED: u64 = 40;

/// A consumer with a limit that needs the store.
const LIMITED: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: ben, labels: {tundish.dev/keys: chat}}
stringData: {key: ben-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: strict}
spec:
  targetRefs: [{name: chat}]
  match: {consumers: {names: [ben]}}
  onStoreLoss: Deny
  limits: [{name: month, unit: Requests, limit: 1000000, window: Month}]
";

/// From the start of a process to its table, beside everything else that runs here.
const START: Duration = Duration::from_secs(5);

/// What can be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    ApiServer,
    Operator,
    Redis,
    Entra,
    Dns,
    Backend,
}

const PARTS: [Part; 6] = [
    Part::ApiServer,
    Part::Operator,
    Part::Redis,
    Part::Entra,
    Part::Dns,
    Part::Backend,
];

/// An installation of which each part can be away.
struct Scene {
    installation: Installation,
    operator: Option<Operator>,
    proxies: [Proxy; 2],
    redis: Redis,
    entra: FaultProxy,
    first: FaultProxy,
    /// Proxies that were started while something was away.
    cold: usize,
    /// The table as a pod has it mounted.
    mounted: tempfile::TempDir,
}

fn port(url: &str) -> Result<u16> {
    let port = url.rsplit(':').next().context("a port")?;
    Ok(port.parse()?)
}

fn backend(name: &str, endpoint: &str, auth: &Value) -> String {
    let backend = json!({"apiVersion": "tundish.dev/v1alpha1", "kind": "AIBackend", "metadata": {"name": name},
        "spec": {"type": "Foundry", "endpoint": endpoint, "allowPlaintext": true, "auth": auth,
            "deployments": [{"name": "gpt-4o", "model": "gpt-4o"}]}});
    format!("---\n{backend}\n")
}

/// [`GOOD`] with a second backend before its own, one without a key, and one that is found by its name.
fn manifests(sim: u16, first: u16) -> String {
    let key = json!({"type": "APIKey", "apiKey": {"secretRef": {"name": "sim", "key": "api-key"}}});
    let application = json!({"type": "ClientSecret", "clientSecret": {"tenantID": TENANT, "clientID": CLIENT,
        "secretRef": {"name": "app", "key": "client"}}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"},
        "stringData": {"client": SECRET}});
    let both = "[{name: first}, {name: sim, priority: 1}]";
    let good = GOOD.replace("[{name: sim}]", both);
    [
        format!("{good}---{LIMITED}---\n{secret}\n"),
        backend("first", &format!("http://127.0.0.1:{first}"), &key),
        backend("keyless", &format!("http://127.0.0.1:{sim}"), &application),
        backend("named", &format!("http://backend.example:{sim}"), &key),
        format!("---\n{}\n", route("keyless", "gpt-5", "keyless")),
        format!("---\n{}\n", route("named", "gpt-6", "named")),
    ]
    .concat()
}

// === impl Scene ===

impl Scene {
    async fn start() -> Result<Self> {
        // Not the shared one: others need it.
        let plane = Arc::new(ControlPlane::start().await?);
        let mut installation = Installation::prepare(plane, "pairs", &[]).await?;
        let sim = port(&installation.sim.url)?;
        let (entra, first) = (FaultProxy::start(sim)?, FaultProxy::start(sim)?);
        let redis = Redis::start_with(&["--appendonly", "yes"])?;
        installation.quota_store = Some(redis.url());
        let names = installation.folder().join("names");
        std::fs::create_dir(&names)?;
        installation.names = Some(Names::new(&names)?);
        let authority = format!("http://127.0.0.1:{}/", entra.port());
        let environment = &mut installation.environment;
        environment.push(("AZURE_AUTHORITY_HOST", authority));
        // Its volumes outlive everything here: kubelet has brought them.
        let plane = &installation.plane;
        let token = plane.create_token("tundish-proxy", &installation.namespace, "tundish");
        let (token, file) = (token.await?, installation.folder().join("cold.token"));
        std::fs::write(&file, token)?;
        let environment = &mut installation.environment;
        environment.push(("TUNDISH_TOKEN_FILE", file.display().to_string()));
        let mounted = tempfile::tempdir()?;
        let snapshot = mounted.path().display().to_string();
        environment.push(("TUNDISH_SNAPSHOT_DIR", snapshot));
        let mut scene = Self {
            operator: Some(installation.operator(0).await?),
            proxies: installation.proxies().await?,
            installation,
            redis,
            entra,
            first,
            cold: 0,
            mounted,
        };
        scene.back(Part::Dns).await?;
        let manifests = manifests(sim, scene.first.port());
        scene.installation.apply(&manifests).await?;
        for proxy in &scene.proxies {
            expect(proxy, &[]).await?;
        }
        let parts = newest(&scene.installation, &scene.proxies[0]).await?;
        mount(scene.mounted.path(), &parts)?;
        Ok(scene)
    }

    fn names(&self) -> Result<&Names> {
        self.installation.names.as_ref().context("names")
    }

    fn away(&mut self, part: Part) -> Result<()> {
        match part {
            Part::ApiServer => self.installation.plane.stop_api_server(),
            Part::Operator => {
                let operator = self.operator.take().context("it runs")?;
                operator.process.kill();
            }
            Part::Redis => self.redis.kill(),
            Part::Entra => {
                self.entra.set(Fault::Refuse);
                self.entra.cut();
            }
            Part::Dns => self.names()?.know(&[])?,
            Part::Backend => {
                self.first.set(Fault::Refuse);
                self.first.cut();
            }
        }
        Ok(())
    }

    async fn back(&mut self, part: Part) -> Result<()> {
        match part {
            Part::ApiServer => self.installation.plane.start_api_server().await?,
            Part::Operator => self.operator = Some(self.installation.operator(0).await?),
            Part::Redis => self.redis.restart()?,
            Part::Entra => self.entra.set(Fault::Pass),
            Part::Dns => self.names()?.know(&["backend.example"])?,
            Part::Backend => self.first.set(Fault::Pass),
        }
        Ok(())
    }

    /// What proxies that run serve with these parts away, and one that starts.
    async fn check(&mut self, away: &[Part]) -> Result<()> {
        let mut load = Load::start(&self.proxies);
        load.outlasts(ANSWERED).await?;
        // Their tokens and the addresses of names are at hand.
        let misses = |part: &Part| !matches!(part, Part::Entra | Part::Dns);
        let of_running: Vec<Part> = away.iter().copied().filter(misses).collect();
        for proxy in &self.proxies {
            expect(proxy, &of_running).await?;
        }
        let name = format!("cold-{}", self.cold);
        self.cold += 1;
        let started = Instant::now();
        let mut cold = self.installation.proxy(&name, &Token::Missing).await?;
        cold.ready().await?;
        let took = started.elapsed();
        ensure!(took < START, "a proxy was ready after {took:?}");
        expect(&cold, away).await?;
        load.end().await?;
        Ok(())
    }
}

/// Waits until a proxy answers each kind of request as it must with these parts away.
async fn expect(proxy: &Proxy, away: &[Part]) -> Result<()> {
    let unless = |part: Part, status: u16| if away.contains(&part) { status } else { 200 };
    for (key, model, status, code) in [
        (ANN, "gpt-4o", 200, ""),
        (BEN, "gpt-4o", unless(Part::Redis, 429), "quota_exceeded"),
        (
            ANN,
            "gpt-5",
            unless(Part::Entra, 502),
            "backend_credential_refused",
        ),
        (ANN, "gpt-6", unless(Part::Dns, 502), "upstream_unreachable"),
    ] {
        proxy.answers((key, model), status, LIMIT).await?;
        let answer = proxy.ask(key, model).await?;
        let is_meant = status == 200 || answer.text().contains(code);
        ensure!(
            answer.status == status && is_meant,
            "{model}: {}",
            answer.text()
        );
    }
    Ok(())
}

#[tokio::test]
async fn any_two_parts_may_be_away_and_a_proxy_start_meanwhile() -> Result<()> {
    let mut scene = Scene::start().await?;
    for (index, one) in PARTS.into_iter().enumerate() {
        scene.away(one)?;
        // An operator cannot begin without the API server, so it is the last that goes with it.
        let others = PARTS.into_iter().skip(index + 1);
        let (last, first): (Vec<_>, Vec<_>) = others.partition(|other| *other == Part::Operator);
        for other in first {
            scene.away(other)?;
            let checked = scene.check(&[one, other]).await;
            checked.with_context(|| format!("{one:?} and {other:?} are away"))?;
            scene.back(other).await?;
        }
        if !last.is_empty() {
            scene.away(Part::Operator)?;
            let checked = scene.check(&[one, Part::Operator]).await;
            checked.with_context(|| format!("{one:?} and the operator are away"))?;
        }
        scene.back(one).await?;
        if !last.is_empty() {
            scene.back(Part::Operator).await?;
        }
        for proxy in &scene.proxies {
            let whole = expect(proxy, &[]).await;
            whole.with_context(|| format!("{one:?} is back"))?;
        }
    }
    Ok(())
}
