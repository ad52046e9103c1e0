//! LiteLLM's proxy under the same load, with a token limit per key in the same Redis.
//!
//! Its limits on keys usually come from its database. A custom authentication hook, which it documents,
//! hands them over instead, so the limiter and its store are the real ones.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests_support::paths::peers;
use tests_support::{Process, Redis, free_port};

use super::admitted::{CASES, Case, SMALL, crowd, key, learn};
use super::call::Chat;
use super::page::Section;
use super::rig::{Counters, Foundry, local};
use super::{Progress, Scope, admitted, float, ratio};
use crate::{load, process};

/// It imports for ten seconds on idle cores.
const START: Duration = Duration::from_secs(90);

/// Connections of the measurement of CPU: enough to keep one core busy.
const CONNECTIONS: usize = 16;

/// Words of a prompt of about 1 KB.
const WORDS: usize = 190;

/// The hook: keys that begin so have the limit that is measured, all others one that nobody reaches.
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
            "max_tokens",
            "answers",
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
its minute. CPU: JSON chats of 1 KB over 16 connections, key and one limit, no other load.";

fn version(program: &Path) -> Result<String> {
    let python = program.with_file_name("python");
    let script = "import importlib.metadata as m; print(m.version('litellm'))";
    let output = Command::new(python).args(["-c", script]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The measured cases: those with a token limit on a model that is known.
fn cases() -> impl Iterator<Item = Case> {
    CASES.into_iter().take(4)
}

async fn litellm(scope: &Scope, program: &PathBuf, count: usize) -> Result<Vec<Vec<String>>> {
    let folder = TempDir::with_prefix("tundish-bench-")?;
    let more = ["--completion-tokens", "64", "--token-interval", "5ms"];
    let foundry = Foundry::start(folder.path(), &more).await?;
    let store = Redis::start()?;
    let config = CONFIG
        .replace("UPSTREAM", &foundry.address.to_string())
        .replace("STORE", &store.port().to_string());
    std::fs::write(folder.path().join("config.yaml"), config)?;
    let hook = HOOK.replace("LIMIT", &SMALL.tokens.to_string());
    std::fs::write(folder.path().join("hook.py"), hook)?;
    let mut instances = Vec::new();
    for number in 0..count {
        instances.push(instance(program, number, folder.path()).await?);
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
    for case in cases() {
        let key = format!("sk-small-{}", case.name);
        let admitted = crowd(&foundry, &addresses, &key, case, SMALL).await?;
        rows.push(row("LiteLLM", count, "store", case, &admitted, &cpu));
    }
    Ok(rows)
}

async fn instance(
    program: &PathBuf,
    number: usize,
    folder: &Path,
) -> Result<(Process, SocketAddr)> {
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
    let mut process = Process::spawn(&format!("litellm-{number}"), &mut command, folder)?;
    let url = format!("http://{address}/health/liveliness");
    process.wait_for_http(&url, START).await?;
    Ok((process, address))
}

async fn tundish(scope: &Scope, counters: Counters, count: usize) -> Result<Vec<Vec<String>>> {
    let rig = admitted::start(counters, count).await?;
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
    for case in cases() {
        let key = key(case, SMALL);
        let admitted = crowd(&rig.foundry, &rig.addresses(), &key, case, SMALL).await?;
        rows.push(row(
            "tundish",
            count,
            counters.name(),
            case,
            &admitted,
            &cpu,
        ));
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

fn row(
    gateway: &str,
    count: usize,
    counters: &str,
    case: Case,
    admitted: &admitted::Admitted,
    cpu: &str,
) -> Vec<String> {
    vec![
        gateway.to_owned(),
        count.to_string(),
        counters.to_owned(),
        case.max_tokens.to_owned(),
        if case.stream { "stream" } else { "JSON" }.to_owned(),
        ratio(admitted.at_once.tokens, SMALL.tokens),
        ratio(admitted.window.tokens, SMALL.tokens),
        admitted.tally.broken().to_string(),
        cpu.to_owned(),
    ]
}
