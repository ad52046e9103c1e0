//! A tenant with `edit` in its own namespace against everything else, by the API server's own RBAC and the chart's
//! roles. Each attack is also made by an account that may, so that a check which refuses everything fails.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tests_support::{ControlPlane, Output, eventually_ok, http, workspace};

use crate::installation::{Installation, LIMIT, Operator as Instance, Token, chat};
use crate::parts::{Proxy, Sim};

const HOME: &str = "attacks";
const VICTIM: &str = "attacks-victim";
const ATTACKER: &str = "attacks-mallory";
/// The host that the platform gave to the victim.
const HOST: &str = "victim.example.com";

/// Who does something.
#[derive(Clone, Copy)]
enum Who {
    /// The administrator of the cluster.
    Admin,
    /// The operator's account.
    Operator,
    /// An account with `edit` in the victim's namespace.
    Victor,
    /// One with `edit` in the attacker's namespace.
    Mallory,
}

use Who::{Admin, Mallory, Operator, Victor};

/// What the API server refuses to the attacker: what it is for, who may, and the arguments of kubectl. Nothing is changed.
const FORBIDDEN: [(&str, Who, &str); 27] = [
    ("read a Secret", Victor, "get secret sim -n VICTIM"),
    ("list all Secrets", Admin, "get secrets --all-namespaces"),
    (
        "have a Secret selected",
        Victor,
        "label secret sim -n VICTIM tundish.dev/keys=chat --dry-run=server",
    ),
    (
        "read the channel's CA",
        Operator,
        "get secret tundish-ca -n HOME",
    ),
    (
        "read the key of response ids",
        Operator,
        "get secret tundish-state-keys -n HOME",
    ),
    (
        "read the stored table",
        Operator,
        "get secret tundish-snapshot-0 -n HOME",
    ),
    (
        "read the proxies' ConfigMap",
        Operator,
        "get configmap tundish-ca -n HOME",
    ),
    (
        "have proxies trust a CA",
        Operator,
        r#"patch configmap tundish-ca -n HOME --dry-run=server -p {"data":{"ca.crt":"x"}}"#,
    ),
    (
        "set counters back",
        Operator,
        r#"patch configmap tundish-quota-checkpoint -n HOME --dry-run=server -p {"data":{"x":"y"}}"#,
    ),
    (
        "take the lead",
        Operator,
        "auth can-i update leases/tundish-operator -n HOME",
    ),
    (
        "stop the leader",
        Admin,
        "delete lease tundish-operator -n HOME --dry-run=server",
    ),
    (
        "stop the victim's statuses",
        Operator,
        "auth can-i update leases/tundish-status -n VICTIM",
    ),
    (
        "change a route",
        Victor,
        r#"patch air chat -n VICTIM --type=merge --dry-run=server -p {"spec":{"hostnames":["x.example.com"]}}"#,
    ),
    (
        "change a backend",
        Victor,
        r#"patch aib sim -n VICTIM --type=merge --dry-run=server -p {"spec":{"endpoint":"https://x.example.com"}}"#,
    ),
    (
        "limit the victim",
        Admin,
        "create -n VICTIM --dry-run=server -f CEILING",
    ),
    (
        "limit everything",
        Admin,
        "create -n HOME --dry-run=server -f CEILING",
    ),
    (
        "lift the platform's limit",
        Admin,
        "delete aiquota ceiling -n MALLORY --dry-run=server",
    ),
    (
        "write a status",
        Operator,
        r#"patch air own -n MALLORY --subresource=status --type=merge --dry-run=server -p {"status":{"programmed":"all"}}"#,
    ),
    (
        "permit a reference",
        Admin,
        "create -n VICTIM --dry-run=server -f GRANT",
    ),
    (
        "make a Gateway",
        Admin,
        "create -n MALLORY --dry-run=server -f GATEWAY",
    ),
    (
        "make an Event",
        Admin,
        "create -n VICTIM --dry-run=server -f EVENT",
    ),
    (
        "be a proxy",
        Admin,
        "create token tundish-proxy -n HOME --audience=tundish",
    ),
    (
        "be the operator",
        Admin,
        "auth can-i impersonate serviceaccounts/tundish-operator -n HOME",
    ),
    (
        "mount the CA",
        Admin,
        "run spy --image=spy -n HOME --dry-run=server",
    ),
    (
        "reach the admin port",
        Admin,
        "auth can-i create pods --subresource=portforward -n HOME",
    ),
    (
        "read the log",
        Admin,
        "auth can-i get pods --subresource=log -n HOME",
    ),
    (
        "take more rights",
        Admin,
        "create rolebinding more -n HOME --clusterrole=edit --user=mallory --dry-run=server",
    ),
];

/// What each namespace has. The attacker's has a Foundry of its own.
const BASE: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: SIM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments: [{name: gpt-4o}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {api-key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: ann, labels: {tundish.dev/keys: chat}}
stringData: {key: NAMESPACE-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: ROUTE}
spec:
  hostnames: [HOST]
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules: [{name: chat, backendRefs: [{name: sim}]}]
";

/// A call: the key, with the host if it is not the victim's, and the model.
type Call = (&'static str, &'static str);

/// What it is for, who may apply the objects, the objects, a call, and its status while they are in the attacker's
/// namespace, and in the victim's.
type Applied = (&'static str, Who, &'static str, Call, [u16; 2]);

/// What the API server takes from the attacker, and the gateway refuses.
const APPLIED: [Applied; 8] = [
    (
        "serve callers without a key on the host", Victor,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIRoute, metadata: {name: trick}, spec: {hostnames: [HOST],
          authentication: {anonymous: {}}, rules: [{name: a, matches: [{models: [open]}], backendRefs: [{name: sim, deployment: gpt-4o}]}]}}",
        ("", "open"), [401, 200],
    ),
    (
        "have callers' own credentials", Victor,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIBackend, metadata: {name: trick}, spec: {type: Foundry, endpoint: SIM,
          allowPlaintext: true, auth: {type: PassThrough}, deployments: [{name: gpt-4o}]}}
---
{apiVersion: tundish.dev/v1alpha1, kind: AIRoute, metadata: {name: trick}, spec: {hostnames: [HOST],
          authentication: {passThrough: {}}, rules: [{name: a, matches: [{models: [passed]}], backendRefs: [{name: trick, deployment: gpt-4o}]}]}}",
        ("sim-key", "passed"), [401, 200],
    ),
    (
        "take calls by a more specific match", Victor,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIRoute, metadata: {name: trick}, spec: {hostnames: [HOST],
          authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}},
          rules: [{name: a, matches: [{models: [gpt-4o]}], backendRefs: [{name: absent}]}]}}",
        ("VICTIM-key", "gpt-4o"), [200, 503],
    ),
    (
        "serve the victim's callers by their label", Victor,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIRoute, metadata: {name: trick}, spec: {hostnames: [other.example.com],
          authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}},
          rules: [{name: a, matches: [{models: [labelled]}], backendRefs: [{name: sim, deployment: gpt-4o}]}]}}",
        ("VICTIM-key@other.example.com", "labelled"), [403, 200],
    ),
    (
        "use a Secret by its name", Victor,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIBackend, metadata: {name: trick}, spec: {type: Foundry, endpoint: SIM,
          allowPlaintext: true, auth: {type: APIKey, apiKey: {secretRef: {name: vault, key: api-key}}}, deployments: [{name: gpt-4o}]}}
---
{apiVersion: tundish.dev/v1alpha1, kind: AIRoute, metadata: {name: trick}, spec: {hostnames: [NAMESPACE.example.com],
          authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}},
          rules: [{name: a, matches: [{models: [vault]}], backendRefs: [{name: trick, deployment: gpt-4o}]}]}}",
        ("NAMESPACE-key@NAMESPACE.example.com", "vault"), [503, 200],
    ),
    (
        "use a backend without a grant", Victor,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIRoute, metadata: {name: trick}, spec: {hostnames: [NAMESPACE.example.com],
          authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}},
          rules: [{name: a, matches: [{models: [across]}], backendRefs: [{name: sim, namespace: VICTIM, deployment: gpt-4o}]}]}}",
        ("NAMESPACE-key@NAMESPACE.example.com", "across"), [503, 200],
    ),
    (
        // Where the platform lets tenants write quotas.
        "limit the victim's route by name", Admin,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIQuota, metadata: {name: trick}, spec: {targetRefs: [{name: chat}],
          limits: [{name: none, unit: Tokens, limit: 1, window: Day}]}}",
        ("VICTIM-key", "gpt-4o"), [200, 429],
    ),
    (
        "limit every route", Admin,
        "{apiVersion: tundish.dev/v1alpha1, kind: AIQuota, metadata: {name: trick}, spec: {
          limits: [{name: none, unit: Tokens, limit: 1, window: Day}]}}",
        ("VICTIM-key", "gpt-4o"), [200, 429],
    ),
];

const CEILING: &str = "{apiVersion: tundish.dev/v1alpha1, kind: AIQuota, metadata: {name: ceiling},
  spec: {limits: [{name: all, unit: Requests, limit: 1000, window: Minute}]}}";
const GRANT: &str = "{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: grant}, spec: {
  from: [{group: tundish.dev, kind: AIRoute, namespace: MALLORY}], to: [{group: tundish.dev, kind: AIBackend}]}}";
const GATEWAY: &str =
    "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: own}, spec: {
  gatewayClassName: tundish, listeners: [{name: all, port: 80, protocol: HTTP}]}}";
const EVENT: &str = r#"{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: "forged"}, type: Warning, reason: Forged,
  eventTime: "2026-01-01T00:00:00.000000Z", action: Forge, reportingController: x, reportingInstance: x,
  regarding: {kind: AIRoute, name: chat, namespace: VICTIM}}"#;

fn filled(text: &str) -> String {
    let text = text.replace("HOST", HOST).replace("HOME", HOME);
    text.replace("VICTIM", VICTIM).replace("MALLORY", ATTACKER)
}

// === impl Who ===

impl Who {
    /// The argument of kubectl with which the API server judges the call as theirs.
    fn account(self) -> Option<String> {
        let account = |namespace: &str, name: &str| {
            Some(format!("--as=system:serviceaccount:{namespace}:{name}"))
        };
        match self {
            Self::Admin => None,
            Self::Operator => account(HOME, "tundish-operator"),
            Self::Victor => account(VICTIM, "victor"),
            Self::Mallory => account(ATTACKER, "mallory"),
        }
    }
}

struct Scene {
    installation: Installation,
    _operator: Instance,
    proxy: Proxy,
    /// The attacker's Foundry.
    evil: Sim,
    /// Keys that were made to see that a table is in force.
    marks: usize,
}

// === impl Scene ===

impl Scene {
    async fn start() -> Result<Self> {
        // One of its own: Gateway API changes what others see.
        let plane = Arc::new(ControlPlane::start().await?.with_workloads().await?);
        for (namespace, account) in [(VICTIM, "victor"), (ATTACKER, "mallory")] {
            plane.namespace(namespace, &[]).await?;
            let role = "--clusterrole=edit";
            let subject = format!("--serviceaccount={namespace}:{account}");
            let bind = [
                "create",
                "rolebinding",
                "edit",
                role,
                "-n",
                namespace,
                &subject,
            ];
            plane.kubectl(&bind).await?.success()?;
        }
        let crds = workspace().join("tests/e2e/tests/cluster/gateway-api-crds.yaml");
        let crds = crds.to_str().context("the path is text")?;
        let apply = ["apply", "--server-side", "-f", crds];
        plane.kubectl(&apply).await?.success()?;
        let values = format!("watch.namespaces={{{VICTIM},{ATTACKER}}}");
        let mut installation = Installation::prepare_with(plane, HOME, &[], &[&values]).await?;
        installation.watched = vec![VICTIM, ATTACKER];
        installation.environment = vec![("TUNDISH_HOST_GRANT", format!("{HOST}={VICTIM}"))];
        let folder = installation.folder().join("evil");
        std::fs::create_dir(&folder)?;
        let evil = Sim::start(&[], &folder).await?;
        let operator = installation.operator(0).await?;
        let mut proxy = installation.proxy("proxy-0", &Token::Own).await?;
        proxy.ready().await?;
        let scene = Self {
            installation,
            _operator: operator,
            proxy,
            evil,
            marks: 0,
        };
        scene
            .apply(Admin, VICTIM, &BASE.replace("ROUTE", "chat"))
            .await?;
        let vault = "{apiVersion: v1, kind: Secret, metadata: {name: vault}, stringData: {api-key: sim-key}}";
        scene.apply(Admin, VICTIM, vault).await?;
        let own = BASE
            .replace("ROUTE", "own")
            .replace("HOST", "NAMESPACE.example.com");
        // The chart's roles let a tenant write these.
        eventually_ok("the roles", LIMIT, async || {
            scene.apply(Mallory, ATTACKER, &own).await
        })
        .await?;
        scene.apply(Admin, ATTACKER, CEILING).await?;
        Ok(scene)
    }

    /// Calls kubectl as somebody; names of files stand for the objects in them.
    async fn kubectl(&self, who: Who, command: &str) -> Result<Output> {
        let mut words: Vec<String> = filled(command)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        for word in &mut words {
            let objects = match word.as_str() {
                "CEILING" => CEILING,
                "GRANT" => GRANT,
                "GATEWAY" => GATEWAY,
                "EVENT" => EVENT,
                _ => continue,
            };
            *word = self.file(&filled(objects))?;
        }
        words.extend(who.account());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.installation.plane.kubectl(&words).await
    }

    fn file(&self, objects: &str) -> Result<String> {
        let path = self.installation.folder().join("objects.yaml");
        std::fs::write(&path, objects)?;
        Ok(path.display().to_string())
    }

    async fn apply(&self, who: Who, namespace: &str, objects: &str) -> Result<()> {
        let sim = if namespace == ATTACKER {
            &self.evil
        } else {
            &self.installation.sim
        };
        let objects = filled(&objects.replace("SIM", &sim.url)).replace("NAMESPACE", namespace);
        let file = self.file(&objects)?;
        let command = format!("apply -n {namespace} -f {file}");
        self.kubectl(who, &command).await?.success()?;
        Ok(())
    }

    /// Waits until all that was applied before is in force.
    async fn settle(&mut self) -> Result<()> {
        self.marks += 1;
        let key = format!("mark-{}", self.marks);
        let secret = format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {key}, labels: {{tundish.dev/keys: chat}}}}, stringData: {{key: {key}}}}}"
        );
        self.apply(Admin, VICTIM, &secret).await?;
        eventually_ok("a table with it", LIMIT, async || {
            // A model that no route has: 404 is behind the key.
            let status = self.ask(HOST, &key, "unknown").await?;
            ensure!(status != 401, "the key is not known yet");
            Ok(())
        })
        .await
    }

    async fn ask(&self, host: &str, key: &str, model: &str) -> Result<u16> {
        let url = format!("{}/v1/chat/completions", self.proxy.url);
        let mut headers = vec![("host", host)];
        if !key.is_empty() {
            headers.push(("api-key", key));
        }
        let answer = http::post_json(&url, &headers, chat(model)).await?;
        Ok(answer.status)
    }

    /// The status of a call while these objects are in a namespace.
    async fn outcome(&mut self, attack: &Applied, who: Who, namespace: &str) -> Result<u16> {
        let (_, _, objects, (caller, model), _) = attack;
        self.apply(who, namespace, objects).await?;
        self.settle().await?;
        let caller = filled(caller).replace("NAMESPACE", namespace);
        let (key, host) = caller.split_once('@').unwrap_or((&caller, HOST));
        let status = self.ask(host, key, model).await?;
        if namespace == ATTACKER {
            let victim = self.ask(HOST, &filled("VICTIM-key"), "gpt-4o").await?;
            ensure!(victim == 200, "the victim's callers get {victim}");
        }
        let delete = format!("delete air,aib,aiquota trick -n {namespace} --ignore-not-found");
        self.kubectl(Admin, &delete).await?.success()?;
        Ok(status)
    }
}

#[tokio::test]
async fn a_tenant_reaches_nothing_of_others() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.settle().await?;

    let mut wrong = Vec::new();
    for (what, rightful, command) in FORBIDDEN {
        let refused = scene.kubectl(Mallory, command).await?;
        let said = format!("{}{}", refused.stdout, refused.stderr);
        if refused.ok || !(said.contains("orbidden") || said.starts_with("no")) {
            wrong.push(format!("{what}: the attacker gets {said}"));
        }
        if let Err(error) = scene.kubectl(rightful, command).await?.success() {
            wrong.push(format!("{what}: who may gets {error:#}"));
        }
    }
    for attack in APPLIED {
        let (what, who, _, _, [refused, served]) = attack;
        let by = if matches!(who, Admin) { Admin } else { Mallory };
        let status = scene.outcome(&attack, by, ATTACKER).await.context(what)?;
        if status != refused {
            wrong.push(format!("{what}: the attacker gets {status}, not {refused}"));
        }
        let status = scene.outcome(&attack, who, VICTIM).await.context(what)?;
        if status != served {
            wrong.push(format!("{what}: who may gets {status}, not {served}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        scene.evil.answered().await?,
        0,
        "no call came to the attacker's Foundry"
    );

    // A proxy of the attacker, with a token for the operators of an account of the same name.
    ATTACKER.clone_into(&mut scene.installation.namespace);
    let mut impostor = scene.installation.proxy("impostor", &Token::Own).await?;
    let line = impostor
        .process
        .wait_for_line("subscription refused", LIMIT)
        .await?;
    assert!(line.contains("403"), "{line}");
    Ok(())
}
