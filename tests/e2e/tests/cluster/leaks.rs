//! No secret of an installation stands in anything that it puts out: logs at trace, pages, metrics, statuses,
//! events, files and answers, while it works and while everything fails.
//!
//! Not judged: what a backend says of its own accord in an answer that passes through.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::{AUDIENCE, SUBJECT};
use tests_support::{ControlPlane, Redis, binary, eventually_ok, http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::installation::{Installation, LIMIT, Operator, chat};
use crate::parts::Proxy;
use alone::Alone;
use known::{ADMIN_TOKEN, BACKEND_KEY, Made, PASSWORD, RAW_KEY, STATE_KEY};
use outputs::Outputs;

mod alone;
mod known;
mod outputs;
mod traffic;

/// Everything that runs.
struct Scene {
    installation: Installation,
    store: Redis,
    store_url: String,
    made: Made,
    operator: Operator,
    proxies: [Proxy; 2],
    /// `tundish run` with plain HTTP, and with TLS.
    plain: Alone,
    secure: Alone,
    outputs: Outputs,
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Its flags and files, before anything of it runs.
async fn prepared(store_url: &str) -> Result<Installation> {
    let plane = ControlPlane::shared().await?;
    let mut installation = Installation::prepare(plane, "leaks", &[]).await?;
    let folder = installation.folder().to_owned();
    let path = |file: PathBuf| file.display().to_string();
    let admin_token = path(write(&folder, "admin-token", ADMIN_TOKEN)?);
    let state_keys = path(write(&folder, "state-keys", STATE_KEY)?);
    installation.in_memory = false;
    installation.quota_store = Some(store_url.to_owned());
    installation.environment = vec![
        ("TUNDISH_LOG_LEVEL", "trace".to_owned()),
        ("TUNDISH_ADMIN_TOKEN_FILE", admin_token),
        ("TUNDISH_STATE_KEYS", state_keys),
    ];
    installation.sim.take_only(&[BACKEND_KEY]).await?;
    Ok(installation)
}

/// The token that stands for the pod at Entra, in its file.
async fn assertion(installation: &Installation) -> Result<String> {
    let wanted = json!({"subject": SUBJECT, "audience": AUDIENCE, "lifetime_s": 3600});
    let url = format!("{}/_sim/assertions", installation.sim.url);
    let made = http::post_json(&url, &[], wanted.to_string()).await?;
    let made: Value = made.json()?;
    let token = made.get("token").and_then(Value::as_str);
    let token = token.context("a token")?;
    std::fs::write(installation.assertion(), token)?;
    Ok(token.to_owned())
}

impl Scene {
    async fn start() -> Result<Self> {
        let store = Redis::start_with(&["--requirepass", PASSWORD])?;
        let store_url = store.url().replace("//", &format!("//:{PASSWORD}@"));
        let installation = prepared(&store_url).await?;
        let assertion = assertion(&installation).await?;
        let mut outputs = Outputs::default();
        let mut new = Command::new(binary("tundish")?);
        new.args(["key", "new", "bound", "-n", "leaks", "-l", "keys=all"]);
        let new = new.output()?;
        let shown = String::from_utf8(new.stderr)?;
        let bound = shown.lines().last().context("no key")?.to_owned();
        let secret = String::from_utf8(new.stdout)?;
        outputs.add("tundish key new", secret.clone());

        let operator = installation.operator(0).await?;
        let sim = &installation.sim.url;
        let objects = format!("{}---\n{secret}", known::manifests(sim));
        installation.plane.apply(&objects).await?;
        let proxies = installation.proxies().await?;
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let tls_key = certified.signing_key.serialize_pem();
        let folder = installation.folder();
        let certificate = write(folder, "tls.crt", &certified.cert.pem())?;
        let key = write(folder, "tls.key", &tls_key)?;
        let plain = alone::run(folder, sim, &secret, &[]).await?;
        let own = folder.join("tls");
        std::fs::create_dir(&own)?;
        let tls = [("--tls-cert", &*certificate), ("--tls-key", &*key)];
        let secure = alone::run(&own, sim, &secret, &tls).await?;
        let made = Made {
            bound,
            assertion,
            tls_key,
        };
        Ok(Self {
            installation,
            store,
            store_url,
            made,
            operator,
            proxies,
            plain,
            secure,
            outputs,
        })
    }

    /// Every credential of the gateway works.
    async fn works(&self) -> Result<()> {
        let [first, second] = &self.proxies;
        for url in [&first.url, &second.url, &self.plain.url] {
            let chats = format!("{url}/v1/chat/completions");
            for key in [RAW_KEY, &self.made.bound] {
                for model in ["by-key", "by-secret", "by-workload", "by-machine"] {
                    eventually_ok(&format!("{model} of {url}"), LIMIT, async || {
                        let key = [("api-key", key)];
                        let answer = http::post_json(&chats, &key, chat(model)).await?;
                        ensure!(answer.status == 200, "{}", answer.text());
                        Ok(())
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    /// Calls, while it works, while every credential is refused, and while the store is closed.
    async fn traffic(&mut self) -> Result<()> {
        let sim = self.installation.sim.url.clone();
        let outputs = &mut self.outputs;
        let [first, second] = &self.proxies;
        let urls = [&first.url, &second.url, &self.plain.url];
        for url in urls {
            traffic::calls(outputs, url, &self.made.bound).await?;
            traffic::failures(&sim, &self.made.assertion).await?;
            traffic::calls(outputs, url, &self.made.bound).await?;
        }
        let mut link = TcpStream::connect(("127.0.0.1", self.store.port())).await?;
        let change = format!(
            "AUTH {PASSWORD}\r\nCONFIG SET requirepass another\r\n\
             CLIENT KILL TYPE normal SKIPME no\r\n"
        );
        link.write_all(change.as_bytes()).await?;
        link.read_to_end(&mut Vec::new()).await.ok();
        for url in urls {
            traffic::calls(outputs, url, &self.made.bound).await?;
        }
        // A key without TLS, to a port with TLS.
        let plain = http::post_json(&self.secure.url, &[("api-key", RAW_KEY)], "{}").await;
        ensure!(plain.is_err(), "the port has TLS");
        Ok(())
    }

    /// Programs that do not start, or only say something.
    fn programs(&mut self) -> Result<()> {
        let folder = self.installation.folder();
        let manifests = folder.join("manifests");
        let tls_key = &self.made.tls_key;
        let good = folder.join("tls.crt");
        let damaged = write(folder, "damaged.key", &tls_key.replace('A', "*"))?;
        let swapped = write(folder, "swapped.crt", tls_key)?;
        for (certificate, key) in [(&good, &damaged), (&swapped, &good)] {
            let mut run = Command::new(binary("tundish")?);
            run.args(["run", "--log-level", "trace", "--listen", "127.0.0.1:0"]);
            run.args(["--admin", "127.0.0.1:0", "--manifests"]);
            run.arg(&manifests).arg("--tls-cert").arg(certificate);
            run.arg("--tls-key").arg(key);
            ensure!(!self.outputs.program(&mut run)?.success(), "that is no key");
        }
        for address in [
            format!("redis://user:{PASSWORD}@[::1"),
            format!("rediss:{PASSWORD}@x/y/z"),
        ] {
            let mut proxy = Command::new(binary("tundish-proxy")?);
            proxy.args(["--quota-store", &address]);
            let ended = self.outputs.program(&mut proxy)?;
            ensure!(!ended.success(), "{address} is no address");
        }
        let sim = &self.installation.sim.url;
        for (program, arguments) in [
            ("tundish", &["run", "--help"][..]),
            ("tundish-proxy", &["--help"]),
            ("tundish-operator", &["--help"]),
        ] {
            let mut help = Command::new(binary(program)?);
            help.args(arguments).envs(alone::cloud(sim, folder));
            help.env("TUNDISH_QUOTA_STORE", &self.store_url);
            ensure!(self.outputs.program(&mut help)?.success(), "{program}");
        }
        let mut check = Command::new(binary("tundish")?);
        self.outputs.program(check.arg("check").arg(manifests))?;
        Ok(())
    }

    async fn pages(&mut self) -> Result<()> {
        let [first, second] = &self.proxies;
        let admins = [
            &first.admin,
            &second.admin,
            &self.plain.admin,
            &self.secure.admin,
            &self.operator.admin,
        ];
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        for admin in admins {
            for path in [
                "metrics",
                "readyz",
                "livez",
                "quota",
                "nothing",
                "explain?model=by-key&consumer=leaks/raw",
                "explain?model=by-key&consumer=unknown",
            ] {
                for token in [&*bearer, "Bearer wrong"] {
                    let url = format!("{admin}/{path}");
                    let token = [("authorization", token)];
                    self.outputs.page(&url, &token).await?;
                }
            }
        }
        Ok(())
    }

    /// What is stored: in the cluster, and in files.
    async fn stored(&mut self) -> Result<()> {
        let get = ["get", "events", "-o", "yaml"];
        // The operator writes events a moment later.
        eventually_ok("an event", LIMIT, async || {
            let events = self.installation.kubectl(&get).await?.success()?;
            ensure!(events.contains("QuotaWarning"), "none yet");
            Ok(())
        })
        .await?;
        for kind in ["aib", "air", "aiq", "events", "configmaps", "leases"] {
            let get = ["get", kind, "-o", "yaml"];
            let text = self.installation.kubectl(&get).await?.success()?;
            let problems = text.contains("misplaced is left out");
            ensure!(kind != "air" || problems, "no status has them: {text}");
            self.outputs.add(format!("kubectl get {kind}"), text);
        }
        for name in ["proxy-0", "proxy-1"] {
            let file = self.installation.last_good(name);
            self.outputs.add(name, std::fs::read(file)?);
        }
        Ok(())
    }

    /// Ends everything, and has the logs.
    async fn logs(self) -> Result<Outputs> {
        let mut outputs = self.outputs;
        let [first, second] = self.proxies;
        let alone = [self.plain.process, self.secure.process];
        let processes = [first.process, second.process, self.operator.process];
        for process in processes.into_iter().chain(alone) {
            let file = process.log_file().to_owned();
            process.terminate(Duration::from_secs(20)).await?;
            let log = std::fs::read(&file)?;
            ensure!(!log.is_empty(), "{} is empty", file.display());
            outputs.add(file.display().to_string(), log);
        }
        Ok(outputs)
    }
}

#[tokio::test]
async fn no_secret_stands_in_any_output() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.works().await?;
    scene.traffic().await?;
    scene.programs()?;
    scene.pages().await?;
    scene.stored().await?;
    let secrets = known::all(&scene.installation, &scene.made).await?;
    let sources = known::manifests(&scene.installation.sim.url);
    let outputs = scene.logs().await?;
    let found = outputs.leaks(&secrets);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    assert!(outputs.len() > 1_000, "only {} outputs", outputs.len());
    // The search finds them where they stand.
    let missing = secrets.missing_in(sources.as_bytes());
    for (name, _) in known::WRITTEN {
        assert!(!missing.contains(&name), "{name} is not found");
    }
    Ok(())
}
