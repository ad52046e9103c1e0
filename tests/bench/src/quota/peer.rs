//! LiteLLM's proxy under the same load, with a token limit per key in the same Redis.
//!
//! Its limits on keys usually come from its database. A custom authentication hook, which it documents,
//! hands them over instead, so the limiter and its store are the real ones.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests_support::paths::peers;
use tests_support::{Process, Redis, free_port};

use super::admitted::{Admitted, CASES, Case, SMALL, crowd, key, learn};
use super::call::Chat;
use super::demand::{Asked, Crowd};
use super::rig::{Billed, Counters, Foundry, local};
use super::scope::{Progress, Scope, ratio};
use super::{admitted, failures};
use crate::figures::float;
use crate::page::Section;
use crate::{load, process};

/// It imports for ten seconds on idle cores.
const START: Duration = Duration::from_secs(90);

/// Connections of the measurement of CPU: enough to keep one core busy.
const CONNECTIONS: usize = 16;

const DIES: &str = "JSON, max_tokens given; store killed";

/// Words of a prompt of about 1 KB.
const WORDS: usize = 190;

/// The hook: keys that begin so have the limit that is measured, all others one that no load reaches.
const HOOK: &str = r#"
from litellm.proxy._types import UserAPIKeyAuth


async def check(request, api_key: str) -> UserAPIKeyAuth:
    limit = LIMIT if api_key.startswith("sk-small") else 9_000_000_000_000
    return UserAPIKeyAuth(api_key=api_key, tpm_limit=limit)
"#;

const CONFIG: &str = r#"
model_list:
- model_name: gpt-4o
  litellm_params: {model: openai/gpt-4o, api_base: "http://UPSTREAM/openai/v1", api_key: sim-key}
litellm_settings:
  cache: true
  cache_params: {type: redis, host: 127.0.0.1, port: STORE, supported_call_types: []}
  num_retries: 0
general_settings:
  custom_auth: hook.check
"#;

/// Compares, if it is installed.
pub(super) async fn measure(scope: &Scope, progress: &Progress) -> Result<Section> {
    let title = "Beside LiteLLM";
    let program = match peers() {
        Ok(folder) => folder.join("venv/bin/litellm"),
        Err(error) => {
            progress.tell(&format!("peer: LiteLLM is left out: {error:#}"));
            return Ok(Section {
                title,
                text: "LiteLLM was not installable here.".to_owned(),
                header: Vec::new(),
                rows: Vec::new(),
            });
        }
    };
    let mut rows = Vec::new();
    let counts: &[usize] = if scope.quick { &[2] } else { &[1, 2] };
    for &count in counts {
        progress.tell(&format!("peer: {count} LiteLLM"));
        rows.extend(litellm(scope, &program, count).await?);
        let counters = scope.counters();
        let counters = counters.last().filter(|_| count > 1).copied();
        progress.tell(&format!("peer: {count} tundish"));
        rows.extend(tundish(scope, counters.unwrap_or(Counters::Memory), count).await?);
    }
    Ok(Section {
        title,
        text: TEXT.replace("VERSION", &version(&program)?),
        header: vec![
            "gateway",
            "instances",
            "counters",
            "calls",
            "300 at once",
            "300, window",
            "failed",
            "CPU-us per request",
        ],
        rows,
    })
}

const TEXT: &str = "
LiteLLM VERSION, one worker each, with its limit of tokens per minute and key (`tpm_limit`) and Redis, set by a
custom authentication hook instead of its database; the same callers and limit as above, seven of ten
callers on the first of two instances. Its calls take longer, so its window is longer too, and still shorter than
its minute. Store killed: no call at once, but all of them spread over 12 s, and Redis is away from second 3 to
second 8 and then empty. Failed: calls with another status than 200 and 429, or cut. CPU: JSON chats of 1 KB over 16 connections, key and one limit, no other load.";

fn version(program: &Path) -> Result<String> {
    let python = program.with_file_name("python");
    let script = "import importlib.metadata as m; print(m.version('litellm'))";
    let output = Command::new(python).args(["-c", script]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The measured cases: those with a token limit on a model that is known.
fn cases(scope: &Scope) -> impl Iterator<Item = Case> {
    CASES
        .into_iter()
        .take(4)
        .step_by(if scope.quick { 3 } else { 1 })
}

async fn litellm(scope: &Scope, program: &Path, count: usize) -> Result<Vec<Vec<String>>> {
    let folder = TempDir::with_prefix("tundish-bench-")?;
    let more = ["--completion-tokens", "64", "--token-interval", "5ms"];
    let foundry = Foundry::start(folder.path(), &more).await?;
    let mut store = Redis::start()?;
    let config = CONFIG
        .replace("UPSTREAM", &foundry.address.to_string())
        .replace("STORE", &store.port().to_string());
    std::fs::write(folder.path().join("config.yaml"), config)?;
    let hook = HOOK.replace("LIMIT", &SMALL.tokens.to_string());
    std::fs::write(folder.path().join("hook.py"), hook)?;
    let mut instances = Vec::new();
    for number in 0..count {
        instances.push(instance(program, number, folder.path())?);
    }
    // All of them start at the same time.
    for (process, address) in &mut instances {
        let url = format!("http://{address}/health/liveliness");
        process.wait_for_http(&url, START).await?;
    }
    let addresses: Vec<SocketAddr> = instances.iter().map(|(_, address)| *address).collect();
    // Its first calls load what it needs.
    for address in &addresses {
        load::closed_loop(*address, &wide("sk-wide"), 4, Duration::from_secs(1)).await?;
    }
    let (process, address) = instances.first().context("there is an instance")?;
    let cpu = if count == 1 || scope.quick {
        format!(
            "{:.0}",
            cpu(process, *address, &wide("sk-wide"), scope).await?
        )
    } else {
        "-".to_owned()
    };
    let mut rows = Vec::new();
    for case in cases(scope) {
        let key = format!("sk-small-{}", case.name);
        let admitted = crowd(&foundry, &addresses, &key, case, SMALL).await?;
        rows.push(row(
            &name(case),
            ("LiteLLM", count, "store"),
            &admitted,
            &cpu,
        ));
    }
    if count > 1 && !scope.quick {
        let admitted = store_dies(&foundry, &addresses, "sk-small-dies", &mut store).await?;
        rows.push(row(DIES, ("LiteLLM", count, "store"), &admitted, &cpu));
    }
    Ok(rows)
}

fn instance(program: &Path, number: usize, folder: &Path) -> Result<(Process, SocketAddr)> {
    let address = local(free_port()?);
    let mut command = Command::new(program);
    command.args(["--config", "config.yaml", "--host", "127.0.0.1"]);
    command.args(["--port", &address.port().to_string(), "--num_workers", "1"]);
    command.current_dir(folder);
    command
        .env("LITELLM_LOG", "ERROR")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("DISABLE_ADMIN_UI", "True")
        // It listens on loopback only, and the hook decides who may call.
        .env(
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY",
            "true",
        );
    let process = Process::spawn(&format!("litellm-{number}"), &mut command, folder)?;
    Ok((process, address))
}

async fn tundish(scope: &Scope, counters: Counters, count: usize) -> Result<Vec<Vec<String>>> {
    let mut rig = admitted::start(counters, count).await?;
    learn(&rig).await?;
    let replica = rig.replicas.first().and_then(Option::as_ref);
    let replica = replica.context("there is a replica")?;
    let cpu = if count == 1 || scope.quick {
        let request = wide("wide");
        format!(
            "{:.0}",
            cpu(&replica.process, replica.address, &request, scope).await?
        )
    } else {
        "-".to_owned()
    };
    let mut rows = Vec::new();
    for case in cases(scope) {
        let key = key(case, SMALL);
        let admitted = crowd(&rig.foundry, &rig.addresses(), &key, case, SMALL).await?;
        let gateway = ("tundish", count, counters.name());
        rows.push(row(&name(case), gateway, &admitted, &cpu));
    }
    let addresses = rig.addresses();
    if !scope.quick
        && let Some(store) = &mut rig.store
    {
        let key = key(admitted::DYING, SMALL);
        let admitted = store_dies(&rig.foundry, &addresses, &key, store).await?;
        let gateway = ("tundish", count, counters.name());
        rows.push(row(DIES, gateway, &admitted, &cpu));
    }
    Ok(rows)
}

fn wide(key: &str) -> std::sync::Arc<[u8]> {
    Chat {
        key,
        model: "gpt-4o",
        words: WORDS,
        max_tokens: Some(16),
        stream: false,
    }
    .request()
}

async fn cpu(process: &Process, address: SocketAddr, request: &[u8], scope: &Scope) -> Result<f64> {
    let time = Duration::from_secs(if scope.quick { 2 } else { 5 });
    let before = process::cpu(process.id())?;
    let outcome = load::closed_loop(address, request, CONNECTIONS, time).await?;
    let used = process::cpu(process.id())?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / float(outcome.latencies.count()))
}

/// The calls of the crowd spread over a time in which the store dies and comes back.
async fn store_dies(
    foundry: &Foundry,
    addresses: &[SocketAddr],
    key: &str,
    store: &mut Redis,
) -> Result<Admitted> {
    let asked = Asked {
        key,
        model: "gpt-4o",
        bounded: true,
        stream: false,
    };
    let before = foundry.billed().await?;
    let mut crowd = Crowd::connect(addresses, asked, SMALL.callers).await?;
    let (tally, died) = tokio::join!(
        crowd.paced(failures::TIME, failures::TIME),
        failures::store_dies(store)
    );
    died?;
    Ok(Admitted {
        at_once: Billed::default(),
        window: foundry.billed().await?.since(before),
        tally: tally?,
    })
}

/// What is asked for.
fn name(case: Case) -> String {
    let answers = if case.stream { "stream" } else { "JSON" };
    format!("{answers}, max_tokens {}", case.max_tokens)
}

fn row(
    what: &str,
    (gateway, count, counters): (&str, usize, &str),
    admitted: &Admitted,
    cpu: &str,
) -> Vec<String> {
    let at_once = match admitted.at_once.requests {
        0 => "-".to_owned(),
        _ => ratio(admitted.at_once.tokens, SMALL.tokens),
    };
    vec![
        gateway.to_owned(),
        count.to_string(),
        counters.to_owned(),
        what.to_owned(),
        at_once,
        ratio(admitted.window.tokens, SMALL.tokens),
        admitted.tally.told_broken(),
        cpu.to_owned(),
    ]
}
