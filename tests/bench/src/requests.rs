//! CPU per request and latency of JSON chats, with a key and a token limit on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tests_support::{Process, binary, free_port};

use crate::latency::Latencies;
use crate::load;
use crate::process::{self, runtime};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Rounds; the rows of a round are interleaved, the median of the rounds is shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections of the closed loop
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of a request's body
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            seconds: 4,
            rounds: 5,
            connections: 64,
            bytes: 1024,
        }
    }
}

const MANIFESTS: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: http://UPSTREAM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {api-key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: ann, labels: {tundish.dev/keys: chat}}
stringData: {key: ann-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules:
  - name: chat
    matches: [{models: ['gpt-*'], operations: [ChatCompletions]}]
    backendRefs: [{name: sim}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: wide}
spec:
  targetRefs: [{name: chat}]
  per: [Consumer]
  limits: [{name: minute, unit: Tokens, limit: 9000000000000, window: Minute}]
";

/// A process under test and the request that it gets.
struct Row {
    name: &'static str,
    process: Process,
    target: SocketAddr,
    request: Vec<u8>,
    samples: Vec<Sample>,
}

struct Sample {
    cpu_micros: f64,
    per_second: f64,
    latencies: Latencies,
}

/// Measures and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    runtime(1)?.block_on(async {
        let mut rows = rows(folder.path(), args).await?;
        for row in &rows {
            load::closed_loop(
                row.target,
                &row.request,
                args.connections,
                Duration::from_secs(1),
            )
            .await?;
        }
        for round in 0..args.rounds {
            progress(&format!("round {} of {}", round + 1, args.rounds));
            for row in &mut rows {
                let sample = measure(row, args).await?;
                row.samples.push(sample);
            }
        }
        report(&rows, args)
    })
}

async fn rows(folder: &Path, args: &Args) -> Result<Vec<Row>> {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let sim = local(free_port()?);
    let key = "api-key: sim-key";
    let mut rows = Vec::new();
    let mut add = |name, process, target, header: &str| {
        let request = load::chat(target, header, args.bytes);
        rows.push(Row {
            name,
            process,
            target,
            request,
            samples: Vec::new(),
        });
    };

    let mut command = Command::new(binary("foundry-sim")?);
    command.args([
        "--listen",
        &sim.to_string(),
        "--record",
        "0",
        "--threads",
        "1",
    ]);
    let mut process = Process::spawn("foundry-sim", &mut command, folder)?;
    let models = format!("http://{sim}/_sim/billed");
    process
        .wait_for_http(&models, Duration::from_secs(10))
        .await?;
    add("direct", process, sim, key);

    let bare = local(free_port()?);
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "bare",
        "--listen",
        &bare.to_string(),
        "--upstream",
        &sim.to_string(),
    ]);
    let mut process = Process::spawn("bare", &mut command, folder)?;
    let url = format!("http://{bare}/_sim/billed");
    process.wait_for_http(&url, Duration::from_secs(10)).await?;
    add("bare hyper", process, bare, key);

    let manifests = folder.join("manifests");
    std::fs::create_dir(&manifests)?;
    std::fs::write(
        manifests.join("all.yaml"),
        MANIFESTS.replace("UPSTREAM", &sim.to_string()),
    )?;
    for (name, quiet) in [("tundish", true), ("tundish, access log", false)] {
        let (listen, admin) = (local(free_port()?), local(free_port()?));
        let mut command = Command::new(binary("tundish")?);
        command.args(["run", "--threads", "1", "--listen", &listen.to_string()]);
        command
            .args(["--admin", &admin.to_string()])
            .arg("--manifests")
            .arg(&manifests);
        if quiet {
            command.arg("--no-access-log");
        }
        let mut process = Process::spawn(
            &name.replace(", ", "-").replace(' ', "-"),
            &mut command,
            folder,
        )?;
        process
            .wait_for_http(&format!("http://{admin}/readyz"), Duration::from_secs(10))
            .await?;
        if quiet {
            let idle = process::resident(process.id())?;
            line(&format!(
                "idle resident memory of tundish run: {:.1} MB",
                mega(idle)
            ));
        }
        add(name, process, listen, "authorization: Bearer ann-key");
    }
    Ok(rows)
}

async fn measure(row: &Row, args: &Args) -> Result<Sample> {
    let time = Duration::from_secs(args.seconds);
    let before = process::cpu(row.process.id())?;
    let outcome = load::closed_loop(row.target, &row.request, args.connections, time).await?;
    let used = process::cpu(row.process.id())?.saturating_sub(before);
    let count = float(outcome.latencies.count());
    Ok(Sample {
        cpu_micros: used.as_secs_f64() * 1e6 / count,
        per_second: count / outcome.elapsed.as_secs_f64(),
        latencies: outcome.latencies,
    })
}

fn report(rows: &[Row], args: &Args) -> Result<()> {
    line(&format!(
        "\n{} B chat, {} connections, closed loop, {} rounds of {} s, medians (least to most)\n",
        args.bytes, args.connections, args.rounds, args.seconds
    ));
    line("| row | CPU-us per request | x bare hyper | requests/s | p50 us | p99 us |");
    line("|---|---|---|---|---|---|");
    let bare: Vec<f64> = rows
        .iter()
        .filter(|row| row.name == "bare hyper")
        .flat_map(|row| row.samples.iter().map(|sample| sample.cpu_micros))
        .collect();
    for row in rows {
        let cpu: Vec<f64> = row.samples.iter().map(|sample| sample.cpu_micros).collect();
        let ratios: Vec<f64> = cpu
            .iter()
            .zip(&bare)
            .map(|(row, bare)| row / bare)
            .collect();
        let rate: Vec<f64> = row.samples.iter().map(|sample| sample.per_second).collect();
        let mut all = Latencies::new()?;
        for sample in &row.samples {
            all.add(&sample.latencies)?;
        }
        line(&format!(
            "| {} | {} | {} | {:.0} | {} | {} |",
            row.name,
            spread(&cpu, 1),
            spread(&ratios, 2),
            median(&rate),
            all.micros(0.5),
            all.micros(0.99),
        ));
    }
    Ok(())
}

pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let sorted = sorted(values);
    let (least, most) = (
        sorted.first().unwrap_or(&0.0),
        sorted.last().unwrap_or(&0.0),
    );
    format!(
        "{:.digits$} ({least:.digits$}-{most:.digits$})",
        median(values)
    )
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

pub(crate) fn median(values: &[f64]) -> f64 {
    sorted(values).get(values.len() / 2).copied().unwrap_or(0.0)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "figures to be read"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) fn mega(bytes: u64) -> f64 {
    float(bytes) / 1e6
}

#[expect(clippy::print_stdout, reason = "the output of a command")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress of a command")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}
