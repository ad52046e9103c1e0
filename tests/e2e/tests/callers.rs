//! Callers by token, through the real gateway: the official SDKs with tokens of a simulated Entra, what routes
//! require of tokens, and keys that are replaced or away.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::{API, API_URI, AccessToken, CLIENT, Config, Fault, Rotation, Sim};
use tests_support::{Process, binary, free_port, http, paths, workspace};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(20);
/// More time than the client needs on a busy machine.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

/// `tundish run` whose callers have tokens of a simulated Entra, which stands beside the simulated Foundry.
struct Gateway {
    sim: Arc<Sim>,
    run: Process,
    url: String,
    admin: String,
    folder: tempfile::TempDir,
}

/// Both versions of Entra's tokens, with what the route requires of them.
fn issuers(sim: &Sim, required: &Value) -> Value {
    let entry = |version: u8, audiences: Value| {
        let mut entry = json!({
            "issuer": sim.issuer(version), "audiences": audiences, "consumerClaim": "azp",
            "attributeClaims": {"group": "groups", "role": "roles"},
        });
        let members = entry.as_object_mut().zip(required.as_object());
        if let Some((members, required)) = members {
            members.extend(required.clone());
        }
        entry
    };
    json!([entry(1, json!([API_URI])), entry(2, json!([API]))])
}

/// A model that needs a role, and others that do not.
fn manifests(sim: &Sim, required: &Value) -> String {
    let backend = json!({"type": "Foundry", "endpoint": sim.url(), "allowPlaintext": true,
        "auth": {"type": "APIKey", "apiKey": {"secretRef": {"name": "sim"}}},
        "deployments": [{"name": "gpt-5"}, {"name": "gpt-5-mini"}, {"name": "gpt-4o-mini"},
            {"name": "claude-sonnet-5-5"}]});
    let large = json!({"name": "large", "backendRefs": [{"name": "sim"}], "matches": [
        {"models": ["gpt-5"], "consumers": {"attributes": {"role": "Models.Large"}}}]});
    let others = json!({"name": "others", "backendRefs": [{"name": "sim"}], "matches": [
        {"models": ["gpt-5-mini", "gpt-4o-mini", "claude-sonnet-5-5"]}]});
    let route =
        json!({"authentication": {"jwt": issuers(sim, required)}, "rules": [large, others]});
    let objects = [
        ("AIBackend", "sim", backend),
        ("AIRoute", "chat", route),
        (
            "AIQuota",
            "per-caller",
            json!({"per": ["Consumer"], "limits": [
                {"name": "minute", "unit": "Tokens", "limit": 10_000_000, "window": "Minute"}]}),
        ),
    ];
    let ours = objects.map(|(kind, name, spec)| {
        json!({"apiVersion": "tundish.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
            "spec": spec})
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sim"},
        "stringData": {"api-key": "sim-key"}});
    let all = ours.into_iter().chain([secret]);
    let all: Vec<String> = all.map(|object| object.to_string()).collect();
    all.join("\n---\n")
}

impl Gateway {
    async fn start(required: &Value) -> Result<Self> {
        let sim = Arc::new(Sim::start(&Config::default())?);
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("manifests"))?;
        let objects = folder.path().join("manifests/objects.yaml");
        std::fs::write(objects, manifests(&sim, required))?;
        let mut gateway = Self::at(sim, folder)?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Starts a process by what is in the folder.
    fn at(sim: Arc<Sim>, folder: tempfile::TempDir) -> Result<Self> {
        let [listen, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(binary("tundish")?);
        command
            .args(["run", "--listen", &listen, "--admin", &admin])
            .args(["--log-level", "trace", "--log-format", "json"])
            .arg("--manifests")
            .arg(folder.path().join("manifests"))
            .arg("--issuer-keys")
            .arg(folder.path().join("issuers"));
        Ok(Self {
            run: Process::spawn("tundish", &mut command, folder.path())?,
            sim,
            url: format!("http://{listen}"),
            admin: format!("http://{admin}"),
            folder,
        })
    }

    async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.admin);
        self.run.wait_for_http(&url, LIMIT).await
    }

    fn token(&self, change: impl FnOnce(&mut AccessToken)) -> Result<String> {
        let mut wanted = AccessToken::default();
        change(&mut wanted);
        Ok(self.sim.access_token(&wanted)?)
    }

    async fn ask(&self, model: &str, token: &str) -> Result<http::Answer> {
        ask(&self.url, model, token).await
    }

    /// The status, code and message of a refusal.
    async fn refused(&self, model: &str, token: &str) -> Result<(u16, String, String)> {
        let answer = self.ask(model, token).await?;
        let body: Value = answer.json()?;
        let text = |member: &str| {
            let text = body.pointer(member).and_then(Value::as_str);
            text.map(str::to_owned).context("a text")
        };
        Ok((answer.status, text("/error/code")?, text("/error/message")?))
    }
}

async fn ask(url: &str, model: &str, token: &str) -> Result<http::Answer> {
    let messages = [json!({"role": "user", "content": "hello"})];
    let body = json!({"model": model, "messages": messages});
    let bearer = format!("Bearer {token}");
    let shown = [("authorization", bearer.as_str())];
    http::post_json(
        &format!("{url}/v1/chat/completions"),
        &shown,
        body.to_string(),
    )
    .await
}

#[tokio::test]
async fn the_official_clients_call_with_tokens_of_both_versions() -> Result<()> {
    let gateway = Gateway::start(&json!({})).await?;
    for version in ["1", "2"] {
        let script = workspace().join("tests/e2e/clients/callers.py");
        let python = paths::clients()?.join("venv/bin/python");
        let mut command = tokio::process::Command::new(python);
        command.arg(script);
        command.args([&*gateway.url, &*gateway.sim.url(), version]);
        let output = command.kill_on_drop(true).output();
        let output = tokio::time::timeout(CLIENT_LIMIT, output).await??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        let passed: Vec<String> = serde_json::from_slice(&output.stdout)?;
        assert_eq!(passed.len(), 14, "{passed:?}");
    }
    // Whoever calls, Foundry gets the gateway's own key.
    let asked = gateway.sim.requests();
    let asked = asked.iter().filter(|one| one.deployment.is_some());
    let mut count = 0;
    for one in asked {
        count += 1;
        let shown = ["authorization", "api-key", "x-api-key"];
        let shown: Vec<_> = shown.iter().filter_map(|name| one.header(name)).collect();
        assert_eq!(shown, ["sim-key"], "{}", one.path);
    }
    assert_eq!(count, 28);
    // The caller is its application, in both versions.
    let usage = http::get(&format!("{}/quota", gateway.admin)).await?.text();
    assert!(
        usage.contains(&format!("consumer=default/{CLIENT}")),
        "{usage}"
    );
    assert!(!gateway.run.log().contains("eyJ"), "the log shows a token");
    Ok(())
}

/// What Foundry's Agent Service asks of a gateway by a `ModelGateway` connection with OAuth2, as the validator of
/// Microsoft's foundry-samples checks it.
#[tokio::test]
async fn a_connection_of_foundrys_agents_by_oauth2() -> Result<()> {
    let gateway = Gateway::start(&json!({})).await?;
    let bearer = format!("Bearer {}", gateway.token(|_| {})?);
    let shown = [("authorization", bearer.as_str())];
    let version = "?api-version=2024-10-21";
    let list = format!("{}/openai/deployments{version}", gateway.url);
    let one = format!("{}/openai/deployments/gpt-5-mini{version}", gateway.url);
    let all = http::request(Method::GET, &list, &shown, "").await?;
    ensure!(all.status == 200, "{}", all.text());
    let all: Value = all.json()?;
    let all = all.get("value").and_then(Value::as_array);
    let mut names = all
        .context("a list")?
        .iter()
        .filter_map(|one| one.get("name"));
    ensure!(names.any(|name| name == "gpt-5-mini"), "{names:?}");
    let one = http::request(Method::GET, &one, &shown, "").await?;
    let one: Value = one.json()?;
    ensure!(
        one.pointer("/properties/model/format") == Some(&json!("OpenAI")),
        "{one}"
    );
    let answer = gateway
        .ask("gpt-5-mini", bearer.trim_start_matches("Bearer "))
        .await?;
    ensure!(answer.status == 200, "{}", answer.text());
    let without = http::get(&list).await?;
    ensure!(without.status == 401, "{}", without.text());
    Ok(())
}

#[tokio::test]
async fn a_route_names_what_a_token_lacks() -> Result<()> {
    let other = "99999999-0000-4000-8000-000000000000";
    let required = json!({"requiredScopes": ["chat"], "requiredRoles": ["Models.Call"],
        "allowedClients": [CLIENT]});
    let gateway = Gateway::start(&required).await?;
    let full = |token: &mut AccessToken| {
        token.user = Some("ann".to_owned());
        token.scopes = vec!["embed".to_owned(), "chat".to_owned()];
        token.roles = vec!["Models.Call".to_owned()];
    };
    for version in [1, 2] {
        let token = |change: fn(&mut AccessToken)| {
            gateway.token(|token| {
                full(token);
                token.version = Some(version);
                change(token);
            })
        };
        let good = token(|_| {})?;
        assert_eq!(gateway.ask("gpt-5-mini", &good).await?.status, 200);
        for (token, says) in [
            (
                token(|one| one.scopes = vec!["embed".to_owned()])?,
                "the scope chat",
            ),
            (token(|one| one.roles.clear())?, "the role Models.Call"),
            (
                token(|one| one.client = "99999999-0000-4000-8000-000000000000".to_owned())?,
                "an application that is not allowed",
            ),
        ] {
            let (status, code, message) = gateway.refused("gpt-5-mini", &token).await?;
            assert_eq!((status, &*code), (403, "forbidden"), "{message}");
            assert!(message.contains(says), "{message}");
            let who = if says.contains("application") {
                other
            } else {
                CLIENT
            };
            assert!(message.contains(&format!("default/{who}")), "{message}");
        }
        // What one rule requires is an attribute.
        let (status, code, _) = gateway.refused("gpt-5", &good).await?;
        assert_eq!((status, &*code), (404, "model_not_found"));
        let large = token(|one| one.roles.push("Models.Large".to_owned()))?;
        assert_eq!(gateway.ask("gpt-5", &large).await?.status, 200);

        for (token, code) in [
            (token(|one| one.lifetime_s = -61)?, "expired_credential"),
            (token(|one| one.starts_s = 90)?, "invalid_credential"),
            (format!("{good}A"), "invalid_credential"),
            (
                token(|one| drop(one.claims.insert("aud".to_owned(), json!("api://other"))))?,
                "invalid_credential",
            ),
        ] {
            let (status, found, message) = gateway.refused("gpt-5-mini", &token).await?;
            assert_eq!((status, &*found), (401, code), "{message}");
        }
        // Clocks may differ.
        let late = token(|one| one.lifetime_s = -30)?;
        assert_eq!(gateway.ask("gpt-5-mini", &late).await?.status, 200);
    }
    let none = http::post_json(&format!("{}/v1/chat/completions", gateway.url), &[], "{}").await?;
    let challenge = none
        .headers
        .get("www-authenticate")
        .context("a challenge")?;
    assert_eq!(
        challenge.to_str()?,
        format!(
            "Bearer realm=\"tundish\", resource_metadata=\"{}/.well-known/oauth-protected-resource\"",
            gateway.url
        )
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_replaced_under_load_and_may_be_away_also_at_a_start() -> Result<()> {
    let gateway = Gateway::start(&json!({})).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for version in [1, 2, 1, 2] {
        let (url, stop) = (gateway.url.clone(), Arc::clone(&stop));
        let sim = Arc::clone(&gateway.sim);
        load.spawn(async move {
            let mut asked = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // One that was never shown before.
                let token = sim.access_token(&AccessToken {
                    version: Some(version),
                    ..AccessToken::default()
                })?;
                let answer = ask(&url, "gpt-5-mini", &token).await?;
                ensure!(answer.status == 200, "{}", answer.text());
                asked += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(asked)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The second one is in no list that the gateway has.
    for announced in [true, false] {
        gateway.sim.rotate_keys(Rotation {
            announced,
            keeps_old: true,
        })?;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let away = ["Entra_Keys", "Entra_Discovery"].map(|operation| Fault {
        operation: Some(operation.to_owned()),
        status: Some(503),
        ..Fault::default()
    });
    gateway.sim.entra_faults(away.into())?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let asked: Result<Vec<u64>> = load.join_all().await.into_iter().collect();
    let asked: u64 = asked?.iter().sum();
    assert!(asked > 100, "{asked}");
    let fetches = gateway.sim.requests();
    let fetches = fetches.iter().filter(|one| one.path.ends_with("/keys"));
    let fetches = fetches.count();
    assert!((2..=6).contains(&fetches), "{fetches} fetches of keys");

    // A process that starts now has the keys of its predecessor.
    let Gateway {
        sim,
        run: before,
        folder,
        ..
    } = gateway;
    before.terminate(LIMIT).await?;
    let mut again = Gateway::at(sim, folder)?;
    again.ready().await?;
    let token = again.token(|_| {})?;
    assert_eq!(again.ask("gpt-5-mini", &token).await?.status, 200);
    Ok(())
}
