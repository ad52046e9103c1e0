//! Backends without keys, through the real gateway: tokens of a simulated Entra for each kind of identity.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::{
    AUDIENCE, AccessToken, App, CLIENT, Config, Directory, Fault, SECRET, SUBJECT, Sim, TENANT,
};
use tests_support::{Process, binary, eventually, free_port, http};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(20);

/// The models, each of which goes to a backend with another kind of identity.
const MODELS: [&str; 3] = ["by-secret", "by-workload", "by-machine"];

/// `tundish run` in front of a simulated Foundry that takes tokens.
struct Gateway {
    sim: Sim,
    run: Process,
    url: String,
    admin: String,
    folder: tempfile::TempDir,
}

fn backend(name: &str, auth: &str, sim: &str) -> String {
    format!(
        "apiVersion: tundish.dev/v1alpha1\nkind: AIBackend\nmetadata: {{name: {name}}}\nspec:\n  \
         type: Foundry\n  endpoint: {sim}\n  allowPlaintext: true\n  auth: {auth}\n  \
         deployments: [{{name: gpt-5}}]\n---\n"
    )
}

fn manifests(sim: &str) -> String {
    let application = format!(
        "{{type: ClientSecret, clientSecret: {{tenantID: {TENANT}, clientID: {CLIENT}, \
         secretRef: {{name: app, key: secret}}}}}}"
    );
    let of_government =
        "{type: ManagedIdentity, scope: https://cognitiveservices.azure.us/.default}";
    let auth = [&application, "{type: WorkloadIdentity}", of_government];
    let mut text = String::new();
    let mut rules = String::new();
    for (model, auth) in MODELS.iter().zip(auth) {
        text += &backend(model, auth, sim);
        rules += &format!(
            "  - name: {model}\n    matches: [{{models: [{model}]}}]\n    \
             backendRefs: [{{name: {model}, deployment: gpt-5}}]\n"
        );
    }
    text + "apiVersion: tundish.dev/v1alpha1\nkind: AIRoute\nmetadata: {name: chat}\nspec:\n  \
            authentication: {anonymous: {}}\n  rules:\n"
        + &rules
}

impl Gateway {
    async fn start(secret: &str, prepare: impl FnOnce(&Sim) -> Result<()>) -> Result<Self> {
        Self::start_with(secret, prepare, |_, _, _| Ok(())).await
    }

    async fn start_with(
        secret: &str,
        prepare: impl FnOnce(&Sim) -> Result<()>,
        adapt: impl FnOnce(&Sim, &Path, &mut Command) -> Result<()>,
    ) -> Result<Self> {
        let sim = Sim::start(&Config::default())?;
        prepare(&sim)?;
        let folder = tempfile::tempdir()?;
        let objects = folder.path().join("manifests");
        std::fs::create_dir(&objects)?;
        std::fs::write(objects.join("objects.yaml"), manifests(&sim.url()))?;
        let [listen, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let token_file = folder.path().join("assertion");
        let mut command = Command::new(binary("tundish")?);
        command
            .args(["run", "--listen", &listen, "--admin", &admin])
            .args(["--log-level", "trace", "--log-format", "json"])
            .arg("--manifests")
            .arg(&objects)
            .env("AZURE_AUTHORITY_HOST", format!("{}/", sim.url()))
            .env("AZURE_TENANT_ID", TENANT)
            .env("AZURE_CLIENT_ID", CLIENT)
            .env("AZURE_FEDERATED_TOKEN_FILE", &token_file)
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", sim.url());
        adapt(&sim, folder.path(), &mut command)?;
        let gateway = Self {
            run: {
                write_secret(&objects, secret)?;
                rotate(&sim, &token_file)?;
                Process::spawn("tundish", &mut command, folder.path())?
            },
            sim,
            url: format!("http://{listen}/v1/chat/completions"),
            admin: format!("http://{admin}"),
            folder,
        };
        gateway.ready().await
    }

    async fn ready(mut self) -> Result<Self> {
        let url = format!("{}/readyz", self.admin);
        self.run.wait_for_http(&url, LIMIT).await?;
        Ok(self)
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("assertion")
    }

    fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    fn token_calls(&self) -> usize {
        let all = self.sim.requests();
        let calls = all.iter().filter(|one| one.path.ends_with("/token"));
        calls.count()
    }
}

/// Puts a fresh token of the cluster into the file, as the kubelet does.
fn rotate(sim: &Sim, file: &PathBuf) -> Result<()> {
    let token = sim.projected_token(SUBJECT, AUDIENCE, Duration::from_secs(3));
    let next = file.with_extension("next");
    std::fs::write(&next, token)?;
    Ok(std::fs::rename(next, file)?)
}

fn write_secret(manifests: &Path, secret: &str) -> Result<()> {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: app}}\nstringData: {{secret: {secret}}}\n"
    );
    Ok(std::fs::write(manifests.join("secret.yaml"), text)?)
}

fn directory(secrets: &[&str], lifetime_s: u64) -> Directory {
    let mut directory = Directory {
        lifetime_s,
        ..Directory::default()
    };
    directory.apps = directory
        .apps
        .into_iter()
        .map(|app| App {
            secrets: secrets.iter().map(|&one| one.to_owned()).collect(),
            ..app
        })
        .collect();
    directory
}

async fn ask(url: &str, model: &str) -> Result<http::Answer> {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let body = json!({"model": model, "messages": messages});
    http::post_json(url, &[], body.to_string()).await
}

fn error(answer: &http::Answer) -> Result<(u16, String, String)> {
    let body: Value = answer.json()?;
    let text = |member: &str| {
        let text = body.pointer(member).and_then(Value::as_str);
        text.map(str::to_owned).context("a text")
    };
    Ok((answer.status, text("/error/code")?, text("/error/message")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_identity_rotates_under_load_and_no_request_is_lost() -> Result<()> {
    let gateway = Gateway::start(SECRET, |sim| {
        sim.directory(directory(&[SECRET, "next-secret"], 4));
        Ok(())
    })
    .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for model in MODELS.into_iter().cycle().take(6) {
        let (url, stop) = (gateway.url.clone(), Arc::clone(&stop));
        load.spawn(async move {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = ask(&url, model).await?;
                ensure!(answer.status == 200, "{model}: {}", answer.text());
                asked += 1;
                // The simulator remembers 10,000 requests: those for tokens must be among them.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(asked)
        });
    }
    for second in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rotate(&gateway.sim, &gateway.token_file())?;
        if second == 3 {
            write_secret(&gateway.manifests(), "next-secret")?;
        }
        if second == 6 {
            gateway.sim.directory(directory(&["next-secret"], 4));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let asked: Result<Vec<u64>> = load.join_all().await.into_iter().collect();
    let asked: u64 = asked?.iter().sum();
    assert!(asked > 100, "{asked}");
    let calls = gateway.token_calls();
    assert!((10..60).contains(&calls), "{calls} token calls");
    let shown: Vec<_> = gateway.sim.requests();
    let shown = shown
        .iter()
        .filter(|one| one.path.ends_with("/chat/completions"));
    for one in shown {
        assert_eq!(one.header("api-key"), None);
        assert_eq!(one.key.as_deref(), Some(format!("entra-{CLIENT}").as_str()));
    }
    // What leaked would stand in the log: it is at trace.
    let log = gateway.run.log();
    for secret in [SECRET, "next-secret", "eyJ"] {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_warned_of_once_with_what_to_do_and_ends_with_the_right_secret() -> Result<()>
{
    let mut gateway = Gateway::start("wrong-secret", |_| Ok(())).await?;
    for _ in 0..5 {
        let (status, code, message) = error(&ask(&gateway.url, "by-secret").await?)?;
        assert_eq!((status, &*code), (502, "backend_credential_refused"));
        assert!(message.ends_with("AADSTS7000215"), "{message}");
    }
    // The others are not concerned.
    assert_eq!(ask(&gateway.url, "by-machine").await?.status, 200);
    let line = gateway.run.wait_for_line("gets no token", LIMIT).await?;
    let line: Value = serde_json::from_str(&line)?;
    let field = |name: &str| {
        let field = line
            .pointer(&format!("/fields/{name}"))
            .or_else(|| line.get(name));
        field.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    assert_eq!(field("code"), "AADSTS7000215", "{line}");
    assert!(field("advice").contains("value, not its id"), "{line}");
    assert!(field("identity").starts_with(&format!("ClientSecret {CLIENT}")));
    let log = gateway.run.log();
    let warned = log
        .lines()
        .filter(|line| line.contains("an identity gets no token"));
    assert_eq!(warned.count(), 1, "{log}");
    assert!(!log.contains("wrong-secret"));
    write_secret(&gateway.manifests(), SECRET)?;
    eventually("the secret is right", LIMIT, async || {
        let answer = ask(&gateway.url, "by-secret").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    let metrics = http::get(&format!("{}/metrics", gateway.admin))
        .await?
        .text();
    for line in [
        "tundish_backend_token_requests_total{type=\"ClientSecret\"",
        "tundish_backend_token_end_timestamp_seconds{type=\"WorkloadIdentity\"",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn an_outage_of_entra_is_outlived_and_its_end_is_logged() -> Result<()> {
    let gateway = Gateway::start(SECRET, |sim| {
        sim.directory(directory(&[SECRET], 10));
        Ok(())
    })
    .await?;
    for model in MODELS {
        assert_eq!(ask(&gateway.url, model).await?.status, 200);
    }
    let away = Fault {
        status: Some(503),
        ..Fault::default()
    };
    gateway.sim.entra_faults(vec![away])?;
    // The tokens are due for their successors after 5 s, and end after 9.
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        for model in MODELS {
            assert_eq!(ask(&gateway.url, model).await?.status, 200, "{model}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gateway.sim.entra_faults(Vec::new())?;
    rotate(&gateway.sim, &gateway.token_file())?;
    eventually("all are back", LIMIT, async || {
        let log = gateway.run.log();
        let back = log.matches("an identity gets tokens again").count();
        let mut good = back == 3;
        for model in MODELS {
            good &= ask(&gateway.url, model).await.ok()?.status == 200;
        }
        good.then_some(())
    })
    .await
}

#[test]
fn the_example_is_good() -> Result<()> {
    let example = tests_support::workspace().join("examples/keyless");
    let mut command = Command::new(binary("tundish")?);
    let output = command.arg("check").arg(example).output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_laptop_needs_no_secret_beside_the_login_of_az() -> Result<()> {
    let gateway = Gateway::start_with(
        SECRET,
        |_| Ok(()),
        |sim, folder, command| {
            let token = sim.access_token(&AccessToken {
                resource: "https://ai.azure.com".to_owned(),
                ..AccessToken::default()
            })?;
            // As `az account get-access-token` prints it.
            let printed = json!({
                "accessToken": token, "expiresOn": "2026-01-01 10:00:00.000000",
                "expires_on": proxy_admin::clock::now().unix_ms / 1_000 + 3_599,
                "subscription": "s", "tenant": TENANT, "tokenType": "Bearer",
            });
            let az = folder.join("az");
            let asked = folder.join("asked");
            let script = format!(
                "#!/bin/sh\necho \"$@\" >> {}\necho '{printed}'\n",
                asked.display()
            );
            std::fs::write(&az, script)?;
            std::fs::set_permissions(&az, PermissionsExt::from_mode(0o755))?;
            let path = format!("{}:/usr/bin:/bin", folder.display());
            command.arg("--azure-login").env("PATH", path);
            Ok(())
        },
    );
    let gateway = gateway.await?;
    // ManagedIdentity's own scope is one that the token is not for.
    for model in ["by-secret", "by-workload"] {
        let answer = ask(&gateway.url, model).await?;
        ensure!(answer.status == 200, "{model}: {}", answer.text());
    }
    let asked = std::fs::read_to_string(gateway.folder.path().join("asked"))?;
    let mut asked: Vec<&str> = asked.lines().collect();
    asked.sort_unstable();
    let expect = "account get-access-token --output json --scope https://";
    assert_eq!(
        asked,
        [
            format!("{expect}ai.azure.com/.default"),
            format!("{expect}cognitiveservices.azure.us/.default"),
        ]
    );
    assert_eq!(gateway.token_calls(), 1, "of the application alone");
    Ok(())
}
