//! Namespaces that do not trust each other on one gateway: from manifests, over the wire, to requests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use prometheus_client::registry::Registry;
use proxy_admin::shutdown::{self, Trigger};
use proxy_core::reach::Reach;
use proxy_core::table::Table;
use proxy_gateway::{Config, Gateway, Metrics, Serving};
use proxy_wire::v1;
use serde_json::{Value, json};
use tests_foundry::Sim;
use tests_support::http;

/// What every case has: `team` and `evil`, each with a backend that has the gateway's credential and one
/// that gets the caller's. `TEAM` and `EVIL` stand for their addresses.
const BOTH: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: eu, namespace: team}
spec: {type: Foundry, endpoint: TEAM, allowPlaintext: true, auth: {type: APIKey, apiKey: {secretRef: {name: foundry, key: key}}}, deployments: [{name: gpt-4o}, {name: gpt-4o-mini}]}
---
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: passing, namespace: team}
spec: {type: Foundry, endpoint: TEAM, allowPlaintext: true, auth: {type: PassThrough}, deployments: [{name: gpt-4o}, {name: gpt-4o-mini}]}
---
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: eu, namespace: evil}
spec: {type: Foundry, endpoint: EVIL, allowPlaintext: true, auth: {type: APIKey, apiKey: {secretRef: {name: foundry, key: key}}}, deployments: [{name: gpt-4o}, {name: gpt-4o-mini}]}
---
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: passing, namespace: evil}
spec: {type: Foundry, endpoint: EVIL, allowPlaintext: true, auth: {type: PassThrough}, deployments: [{name: gpt-4o}, {name: gpt-4o-mini}]}
---
apiVersion: v1
kind: Secret
metadata: {name: foundry, namespace: team}
stringData: {key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: foundry, namespace: evil}
stringData: {key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: ann, namespace: team, labels: {keys: all}}
stringData: {key: key-of-ann}
---
apiVersion: v1
kind: Secret
metadata: {name: vip, namespace: team, labels: {keys: all, vip: 'yes'}}
stringData: {key: key-of-vip}
---
apiVersion: v1
kind: Secret
metadata: {name: eve, namespace: evil, labels: {keys: all}}
stringData: {key: key-of-eve}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: elsewhere, namespace: evil}
spec:
  hostnames: [evil.example.com]
  authentication: {apiKeys: {secretSelector: {matchLabels: {keys: all}}}}
  rules: [{name: all, backendRefs: [{name: eu}]}]
";

/// For all consumers of `team`.
const BROAD: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: broad, namespace: team}
spec:
  hostnames: [ai.example.com]
  authentication: {apiKeys: {secretSelector: {matchLabels: {keys: all}}}}
  rules: [{name: all, matches: [{models: [gpt-4o*]}], backendRefs: [{name: eu}]}]
";

/// For the one consumer with another label.
const SPECIFIC: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: specific, namespace: team}
spec:
  hostnames: [ai.example.com]
  authentication: {apiKeys: {secretSelector: {matchLabels: {vip: 'yes'}}}}
  rules: [{name: vip, matches: [{models: [gpt-4o]}], backendRefs: [{name: eu}]}]
";

struct Shared {
    team: Sim,
    evil: Sim,
    url: String,
    trigger: Trigger,
    registry: Registry,
    serving: Option<Serving>,
}

/// The header of a key.
type Shown<'a> = &'a [(&'a str, &'a str)];

const ANN: Shown<'static> = &[("api-key", "key-of-ann")];
const VIP: Shown<'static> = &[("api-key", "key-of-vip")];
const EVE: Shown<'static> = &[("api-key", "key-of-eve")];

impl Shared {
    /// Compiles the manifests, sends the table and serves it. `grants` are lines of host grants.
    fn start(grants: &[&str], manifests: &[&str]) -> Result<Self> {
        let config = tests_foundry::Config::default();
        let (team, evil) = (Sim::start(&config)?, Sim::start(&config)?);
        let mut yaml: String = grants
            .iter()
            .map(|grant| format!("# host grant: {grant}\n"))
            .collect();
        yaml.push_str(BOTH);
        for manifest in manifests {
            yaml.push_str("---");
            yaml.push_str(manifest);
        }
        let yaml = yaml
            .replace("TEAM", &team.url())
            .replace("EVIL", &evil.url());
        let yaml = format!("# backend reach: loopback\n{yaml}");
        let compiled = tests_golden::compile_yaml(&yaml);
        let contents = v1::decode(&v1::encode(&compiled.contents))?;
        let mut registry = Registry::default();
        let config = Config {
            reuse_port: false,
            listen: "127.0.0.1:0".parse()?,
            apis: proxy_api::ROWS,
            threads: 1,
            trusted_hops: 0,
            proxy_protocol: false,
            tls: None,
            max_body: 1 << 20,
            max_upload: 64 << 20,
            memory_budget: 256 << 20,
            default_output_tokens: 100,
            reach: Arc::new(Reach::everywhere()),
            drain_grace: Duration::from_secs(10),
            limit_series: 0,
            state_keys: proxy_gateway::StateKeys::of_this_process(),
            access_log: None,
            store: None,
            identity: proxy_identity::Config::new(
                "http://127.0.0.1:1".parse()?,
                "http://127.0.0.1:1".parse()?,
            ),
        };
        let gateway = Gateway::new(config, Metrics::register(&mut registry));
        gateway.publish(Arc::new(Table::new(contents)));
        let (trigger, shutdown) = shutdown::channel();
        let serving = gateway.start(&shutdown)?;
        Ok(Self {
            team,
            evil,
            url: format!("http://{}/v1/chat/completions", serving.address()),
            trigger,
            registry,
            serving: Some(serving),
        })
    }

    /// Status and code of a call.
    async fn ask(&self, shown: Shown<'_>, model: &str) -> Result<(u16, String)> {
        self.ask_at("ai.example.com", shown, model).await
    }

    async fn ask_at(&self, host: &str, shown: Shown<'_>, model: &str) -> Result<(u16, String)> {
        let mut headers = vec![("host", host)];
        headers.extend_from_slice(shown);
        let messages = json!([{"role": "user", "content": "A secret"}]);
        let body = json!({"model": model, "messages": messages}).to_string();
        let answer = http::post_json(&self.url, &headers, body).await?;
        let json: Value = answer.json()?;
        let code = json.pointer("/error/code").and_then(Value::as_str);
        Ok((answer.status, code.unwrap_or("ok").to_owned()))
    }

    /// The metrics of tokens by consumer.
    fn consumers(&self) -> Vec<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("it is text");
        let lines = text.lines().filter(|line| line.starts_with("tokens_total"));
        let mut found: Vec<String> = lines
            .filter_map(|line| line.split("consumer=\"").nth(1)?.split('"').next())
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// Every credential that a backend was shown.
    fn upstream(sim: &Sim) -> Vec<String> {
        let requests = sim.requests().into_iter();
        let shown = requests.flat_map(|one| {
            ["api-key", "x-api-key", "authorization"]
                .into_iter()
                .filter_map(|name| one.header(name).map(str::to_owned))
                .collect::<Vec<_>>()
        });
        shown.collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.trigger.stop();
        if let Some(serving) = self.serving.take() {
            serving.join();
        }
    }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn served() -> (u16, String) {
    (200, "ok".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_specific_route_for_one_team_is_not_bypassed_by_a_broad_one_for_all() -> Result<()> {
    let shared = Shared::start(&[], &[BROAD, SPECIFIC])?;
    assert_eq!(shared.ask(VIP, "gpt-4o").await?, served());
    assert_eq!(shared.ask(ANN, "gpt-4o-mini").await?, served());
    assert_eq!(shared.ask(ANN, "gpt-4o").await?, refused(403, "forbidden"));
    // Neither by a full name of the host.
    let full = shared.ask_at("ai.example.com.", ANN, "gpt-4o").await?;
    assert_eq!(full, refused(403, "forbidden"));
    let full = shared.ask_at("ai.example.com.:80", VIP, "gpt-4o").await?;
    assert_eq!(full, served());
    // A consumer of another namespace learns nothing about the models of this one.
    for model in ["gpt-4o", "o3"] {
        assert_eq!(shared.ask(EVE, model).await?, refused(403, "forbidden"));
    }
    assert_eq!(shared.consumers(), ["team/ann", "team/vip"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_unreadable_authentication_keeps_its_model_from_a_broad_one() -> Result<()> {
    let unreadable = SPECIFIC.replace("apiKeys", "apiKey");
    let shared = Shared::start(&[], &[BROAD, &unreadable])?;
    for key in [ANN, VIP] {
        let rejected = refused(503, "route_rejected");
        assert_eq!(shared.ask(key, "gpt-4o").await?, rejected);
        assert_eq!(shared.ask(key, "gpt-4o-mini").await?, served());
    }
    assert_eq!(shared.ask(EVE, "gpt-4o").await?, refused(403, "forbidden"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relabelled_secret_changes_what_it_may_and_bypasses_nothing() -> Result<()> {
    let relabelled = "
apiVersion: v1
kind: Secret
metadata: {name: vip, namespace: team, labels: {keys: all}}
stringData: {key: key-of-vip}
";
    let shared = Shared::start(&[], &[BROAD, SPECIFIC, relabelled])?;
    assert_eq!(shared.ask(VIP, "gpt-4o").await?, refused(403, "forbidden"));
    assert_eq!(shared.ask(VIP, "gpt-4o-mini").await?, served());
    Ok(())
}

/// A route of `evil` on the host of `team`, more specific in each way.
fn claim(authentication: &str, backend: &str) -> String {
    format!(
        "
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {{name: claim, namespace: evil, creationTimestamp: \"2020-01-01T00:00:00Z\"}}
spec:
  hostnames: [ai.example.com]
  authentication: {{{authentication}}}
  rules:
  - name: all
    matches: [{{models: [gpt-4o], headers: [{{name: content-type, value: application/json}}]}}, {{models: [gpt-4o]}}]
    backendRefs: [{{name: {backend}}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_of_another_namespace_takes_callers_prompts_or_keys() -> Result<()> {
    let claims = [
        claim("passThrough: {}", "passing"),
        claim("anonymous: {}", "eu"),
        claim(
            "apiKeys: {secretSelector: {matchLabels: {keys: all}}}",
            "eu",
        ),
    ];
    for claim in &claims {
        // Even where the platform granted the host to both.
        for grants in [&[][..], &["ai.example.com=team"], &["*=team,evil"]] {
            let shared = Shared::start(grants, &[BROAD, claim])?;
            for key in [ANN, VIP] {
                assert_eq!(shared.ask(key, "gpt-4o").await?, served(), "{claim}");
            }
            assert_eq!(Shared::upstream(&shared.evil), [""; 0], "{claim}");
            assert_eq!(Shared::upstream(&shared.team), ["sim-key", "sim-key"]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_key_belong_to_the_namespace_that_has_the_grant() -> Result<()> {
    let own = |authentication: &str, backend: &str| {
        let broad = "apiKeys: {secretSelector: {matchLabels: {keys: all}}}";
        let broad = BROAD.replace(broad, authentication);
        broad.replace("{name: eu}", &format!("{{name: {backend}}}"))
    };
    let stranger: Shown<'_> = &[("authorization", "Bearer sim-key")];
    for (authentication, backend, shown) in [
        ("passThrough: {}", "passing", stranger),
        ("anonymous: {}", "eu", &[]),
        ("anonymous: {}", "eu", stranger),
    ] {
        let mine = own(authentication, backend);
        let theirs = claim(authentication, backend);
        let granted = Shared::start(&["*.example.com=team"], &[&mine, &theirs])?;
        assert_eq!(granted.ask(shown, "gpt-4o").await?, served());
        assert_eq!(granted.ask(shown, "gpt-4o-mini").await?, served());
        assert_eq!(Shared::upstream(&granted.evil), [""; 0]);
        // Without a grant no callers, whoever was first.
        let ungranted = Shared::start(&["other.example.com=evil,team"], &[&mine, &theirs])?;
        let (status, code) = ungranted.ask(shown, "gpt-4o").await?;
        assert_eq!(status, 401, "{code}");
        let all = [&ungranted.evil, &ungranted.team].map(Shared::upstream);
        assert_eq!(all.concat(), [""; 0]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_any_namespace_is_never_passed_through() -> Result<()> {
    let passing = claim("passThrough: {}", "passing");
    let expired = "
apiVersion: v1
kind: Secret
metadata: {name: old, namespace: team, labels: {keys: all}, annotations: {tundish.dev/expires: \"2020-01-01T00:00:00Z\"}}
stringData: {key: key-of-old}
";
    let elsewhere = BROAD.replace("ai.example.com", "keys.example.com");
    let shared = Shared::start(&["*=evil"], &[&passing, &elsewhere, expired])?;
    for key in [ANN, VIP] {
        assert_eq!(shared.ask(key, "gpt-4o").await?, refused(403, "forbidden"));
    }
    let old: Shown<'_> = &[("x-api-key", "key-of-old")];
    let denied = refused(401, "expired_credential");
    assert_eq!(shared.ask(old, "gpt-4o").await?, denied);
    let behind_junk: Shown<'_> = &[("api-key", "junk"), ("authorization", "Bearer key-of-ann")];
    let denied = refused(403, "forbidden");
    assert_eq!(shared.ask(behind_junk, "gpt-4o").await?, denied);
    assert_eq!(Shared::upstream(&shared.evil), [""; 0]);
    // Its own credential goes there, and nothing else.
    let own: Shown<'_> = &[("api-key", "sim-key"), ("x-api-key", "other")];
    assert_eq!(shared.ask(own, "gpt-4o").await?, served());
    assert_eq!(Shared::upstream(&shared.evil), ["sim-key"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_junk_first_header_hides_no_known_key() -> Result<()> {
    let shared = Shared::start(&[], &[BROAD])?;
    for shown in [
        [("api-key", "junk"), ("authorization", "Bearer key-of-ann")],
        [("api-key", "junk"), ("x-api-key", "key-of-ann")],
        [("authorization", "Basic junk"), ("x-api-key", "key-of-ann")],
        [("authorization", ""), ("x-api-key", "key-of-ann")],
        [
            ("api-key", "key-of-ann"),
            ("authorization", "Bearer key-of-ann"),
        ],
    ] {
        assert_eq!(shared.ask(&shown, "gpt-4o").await?, served(), "{shown:?}");
    }
    let two: Shown<'_> = &[("api-key", "key-of-ann"), ("x-api-key", "key-of-eve")];
    let ambiguous = refused(400, "ambiguous_credential");
    assert_eq!(shared.ask(two, "gpt-4o").await?, ambiguous);
    let junk: Shown<'_> = &[("api-key", "junk"), ("x-api-key", "more")];
    let unknown = refused(401, "invalid_credential");
    assert_eq!(shared.ask(junk, "gpt-4o").await?, unknown);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_credential_is_no_consumer_where_none_is_needed() -> Result<()> {
    let open = "
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: open, namespace: team}
spec:
  hostnames: [open.example.com]
  authentication: {anonymous: {}}
  rules: [{name: all, backendRefs: [{name: eu}]}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: each, namespace: team}
spec: {per: [Consumer], limits: [{name: day, unit: Requests, limit: 2, window: Day}]}
";
    let shared = Shared::start(&["open.example.com=team"], &[open])?;
    let mut statuses = Vec::new();
    for number in 0..4 {
        let key = format!("random-{number}");
        let shown = [("api-key", key.as_str())];
        let (status, _) = shared.ask_at("open.example.com", &shown, "gpt-4o").await?;
        statuses.push(status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(shared.consumers(), ["anonymous"]);
    Ok(())
}
