//! Conversations of agents over several endpoints: each finds the prompt cache that knows it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::{Config, Fault, Sim};
use tests_support::{Process, binary, eventually_ok, free_port, http};
use tokio::task::JoinSet;

mod codex;

/// More than any step takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const CONVERSATIONS: usize = 12;
const TURNS: usize = 20;
/// Words are tokens: of what all agents of the application are instructed with, and of a tool's result.
const INSTRUCTIONS: usize = 2_000;
const RESULT: usize = 300;

/// Resources with a deployment each, and replicas before all of them.
struct Installation {
    sims: Vec<Sim>,
    replicas: Vec<Replica>,
    folder: tempfile::TempDir,
}

struct Replica {
    name: String,
    url: String,
    listen: String,
    admin: String,
    run: Process,
}

fn manifests(sims: &[Sim], affinity: &str) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: foundry}\nstringData: {api-key: sim-key}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata:\n  name: agents\n  labels: {tundish.dev/keys: chat}\n\
         stringData: {key: agents-key}\n---\n",
    );
    let mut targets = String::new();
    for (index, sim) in sims.iter().enumerate() {
        let url = sim.url();
        let written = write!(
            text,
            "apiVersion: tundish.dev/v1alpha1\nkind: AIBackend\nmetadata: {{name: b{index}}}\nspec:\n  \
             type: Foundry\n  endpoint: {url}\n  allowPlaintext: true\n  auth: {{type: APIKey, apiKey: \
             {{secretRef: {{name: foundry, key: api-key}}}}}}\n  deployments: [{{name: gpt-5}}]\n---\n"
        );
        written.expect("a string");
        writeln!(targets, "    - name: b{index}").expect("a string");
    }
    text + "apiVersion: tundish.dev/v1alpha1\nkind: AIRoute\nmetadata: {name: chat}\nspec:\n  authentication:\n    \
            apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}\n  rules:\n  - name: chat\n    \
            matches: [{models: [\"gpt-*\"]}]\n    affinity: "
        + affinity
        + "\n    backendRefs:\n"
        + &targets
}

impl Replica {
    async fn start(name: String, listen: String, admin: String, folder: &Path) -> Result<Self> {
        let mut command = Command::new(binary("tundish")?);
        command.args([
            "run",
            "--listen",
            &listen,
            "--admin",
            &admin,
            "--threads",
            "1",
        ]);
        command.arg("--manifests").arg(folder.join("manifests"));
        command.arg("--state-keys").arg(folder.join("state-keys"));
        let mut run = Process::spawn(&name, &mut command, folder)?;
        run.wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
            .await?;
        Ok(Self {
            name,
            url: format!("http://{listen}"),
            listen,
            admin,
            run,
        })
    }
}

impl Installation {
    async fn start(endpoints: usize, replicas: usize, affinity: &str) -> Result<Self> {
        Self::of("gpt-5,cache=on", endpoints, replicas, affinity).await
    }

    /// The same with another deployment.
    async fn of(
        deployment: &str,
        endpoints: usize,
        replicas: usize,
        affinity: &str,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = Config {
            deployments: vec![deployment.parse()?],
            ..Config::default()
        };
        let sims = (0..endpoints).map(|_| Sim::start(&config));
        let sims = sims.collect::<std::io::Result<Vec<_>>>()?;
        let manifest = folder.path().join("manifests");
        std::fs::create_dir(&manifest)?;
        std::fs::write(manifest.join("all.yaml"), manifests(&sims, affinity))?;
        std::fs::write(
            folder.path().join("state-keys"),
            "0123456789abcdef".repeat(4),
        )?;
        let mut all = Vec::new();
        for index in 0..replicas {
            let [listen, admin] =
                [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
            all.push(
                Replica::start(format!("tundish-{index}"), listen, admin, folder.path()).await?,
            );
        }
        Ok(Self {
            sims,
            replicas: all,
            folder,
        })
    }

    /// Kills a replica, and starts it again at the same address.
    async fn restart(&mut self, index: usize) -> Result<()> {
        let Replica {
            name,
            listen,
            admin,
            run,
            ..
        } = self.replicas.remove(index);
        run.kill();
        let again = Replica::start(name, listen, admin, self.folder.path()).await?;
        self.replicas.insert(index, again);
        Ok(())
    }

    fn urls(&self) -> Vec<String> {
        let url = |one: &Replica| format!("{}/v1/chat/completions", one.url);
        self.replicas.iter().map(url).collect()
    }

    /// What each resource has read, and how much of that was cached.
    fn read(&self) -> Vec<(f64, f64)> {
        let of = |sim: &Sim| {
            let requests = sim.requests();
            let usages = requests.iter().map(|one| one.usage);
            usages.fold((0, 0), |(read, cached), usage| {
                (read + usage.prompt_tokens, cached + usage.cached_tokens)
            })
        };
        let float = |tokens: u64| u32::try_from(tokens).map_or(f64::NAN, f64::from);
        let each = self.sims.iter().map(of);
        each.map(|(read, cached)| (float(read), float(cached)))
            .collect()
    }

    /// The part of all that was read which was cached.
    fn cached_share(&self) -> f64 {
        let (read, cached): (Vec<_>, Vec<_>) = self.read().into_iter().unzip();
        cached.iter().sum::<f64>() / read.iter().sum::<f64>()
    }

    /// Which resources have answered a conversation.
    fn homes(&self, conversation: usize) -> BTreeSet<usize> {
        let question = question(conversation);
        let asked = |sim: &Sim| {
            let requests = sim.requests();
            requests
                .iter()
                .any(|one| one.status == Some(200) && one.body.contains(&question))
        };
        let homes = self.sims.iter().enumerate().filter(|(_, sim)| asked(sim));
        homes.map(|(index, _)| index).collect()
    }
}

fn words(of: &str, count: usize) -> String {
    let words: Vec<String> = (0..count).map(|word| format!("{of}-{word}")).collect();
    words.join(" ")
}

fn question(conversation: usize) -> String {
    format!("Mend case {conversation} .")
}

/// An agent at work: what was said so far.
struct Agent {
    conversation: usize,
    messages: Vec<Value>,
    /// The gateways, which it asks in turn.
    urls: Vec<String>,
    turns: usize,
}

impl Agent {
    fn new(conversation: usize, urls: Vec<String>) -> Self {
        let messages = vec![
            json!({"role": "system", "content": words("rule", INSTRUCTIONS)}),
            json!({"role": "user", "content": question(conversation)}),
        ];
        Self {
            conversation,
            messages,
            urls,
            turns: 0,
        }
    }

    /// One turn: asks, and has a tool called.
    async fn turn(&mut self) -> Result<()> {
        let url = self
            .urls
            .get(self.turns % self.urls.len())
            .context("a gateway")?;
        let body = json!({"model": "gpt-5", "messages": self.messages}).to_string();
        let session = format!("case-{}", self.conversation);
        let headers = [("api-key", "agents-key"), ("x-session", &session)];
        let answer = http::post_json(url, &headers, body).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        let answer: Value = answer.json()?;
        let said = answer
            .pointer("/choices/0/message/content")
            .context("an answer")?;
        self.messages
            .push(json!({"role": "assistant", "content": said}));
        self.turns += 1;
        let result = words(&format!("{}-{}", self.conversation, self.turns), RESULT);
        let id = format!("call-{}", self.turns);
        self.messages
            .push(json!({"role": "tool", "tool_call_id": id, "content": result}));
        Ok(())
    }

    async fn turns(mut self, count: usize) -> Result<Self> {
        for _ in 0..count {
            self.turn().await?;
        }
        Ok(self)
    }
}

/// All agents work at once.
async fn work(agents: Vec<Agent>, turns: usize) -> Result<Vec<Agent>> {
    let mut tasks = JoinSet::new();
    for agent in agents {
        tasks.spawn(agent.turns(turns));
    }
    let mut agents = tasks
        .join_all()
        .await
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    agents.sort_by_key(|agent| agent.conversation);
    Ok(agents)
}

async fn session(installation: &Installation) -> Result<Vec<Agent>> {
    let agents = (0..CONVERSATIONS).map(|number| Agent::new(number, installation.urls()));
    work(agents.collect(), TURNS).await
}

/// The cached share of the session over some endpoints.
async fn share(endpoints: usize, affinity: &str) -> Result<f64> {
    let installation = Installation::start(endpoints, 1, affinity).await?;
    session(&installation).await?;
    Ok(installation.cached_share())
}

#[tokio::test]
async fn conversations_over_four_endpoints_find_their_caches() -> Result<()> {
    let alone = share(1, "{type: Conversation}").await?;
    let conversation = share(4, "{type: Conversation}").await?;
    let header = share(4, "{type: Header, header: x-session}").await?;
    let none = share(4, "{type: None}").await?;
    println!(
        "one endpoint {alone:.3}; four: {conversation:.3}, header {header:.3}, none {none:.3}"
    );
    ensure!(alone > 0.9, "one endpoint: {alone}");
    for with in [conversation, header] {
        ensure!(with >= 0.95 * alone, "{with} of {alone}");
        ensure!(none < 0.9 * with, "without affinity {none}, with it {with}");
    }
    Ok(())
}

#[tokio::test]
async fn replicas_choose_the_same_endpoint_and_tell_its_cached_share() -> Result<()> {
    let installation = Installation::start(4, 2, "{type: Conversation}").await?;
    session(&installation).await?;
    let mut homes = BTreeSet::new();
    for conversation in 0..CONVERSATIONS {
        let home = installation.homes(conversation);
        ensure!(
            home.len() == 1,
            "conversation {conversation} went to {home:?}"
        );
        homes.extend(home);
    }
    ensure!(homes.len() == 4, "all conversations went to {homes:?}");
    let mut shares = Vec::new();
    for replica in &installation.replicas {
        let metrics = http::get(&format!("http://{}/metrics", replica.admin))
            .await?
            .text();
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("tundish_cached_input_share{"));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        shares.push(values.collect::<Vec<_>>());
        let page: Value = http::get(&format!("http://{}/backends", replica.admin))
            .await?
            .json()?;
        let percent = page.pointer("/deployments/0/cached_input_percent");
        let percent = percent
            .and_then(Value::as_u64)
            .context("a share on the page")?;
        ensure!((80..=100).contains(&percent), "{percent}");
    }
    let known = installation.cached_share();
    for share in shares.concat() {
        ensure!(
            (share - known).abs() < 0.05,
            "{share} of {known}: {shares:?}"
        );
    }
    ensure!(shares.iter().all(|one| one.len() == 4), "{shares:?}");
    Ok(())
}

#[tokio::test]
async fn conversations_go_on_elsewhere_and_come_back() -> Result<()> {
    let installation = Installation::start(4, 1, "{type: Conversation}").await?;
    let agents = session(&installation).await?;
    let home = installation.homes(0).into_iter().next().context("a home")?;
    let sim = installation.sims.get(home).context("a resource")?;
    sim.faults(vec![Fault {
        status: Some(503),
        ..Fault::default()
    }])?;
    installation.sims.iter().for_each(Sim::clear_requests);
    let mut agents = work(agents, TURNS).await?;
    ensure!(!installation.homes(0).contains(&home), "it answers 503");
    ensure!(!installation.homes(0).is_empty(), "others do not answer");
    sim.faults(Vec::new())?;
    let agent = agents.first_mut().context("an agent")?;
    eventually_ok("the conversation is back", LIMIT, async || {
        installation.sims.iter().for_each(Sim::clear_requests);
        agent.turn().await?;
        let homes = installation.homes(0);
        ensure!(homes.contains(&home), "{homes:?}");
        Ok(())
    })
    .await
}
