//! CPU per request by the number of limits, beside a bare hyper proxy in the same rounds.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tests_support::{Process, Redis, free_port};

use super::rig::{self, Counters, Foundry, ROUTE, consumer, local, quota};
use super::scope::{Progress, Scope};
use crate::figures::{float, median, spread};
use crate::page::Section;
use crate::subject::{LIMITS, limit};
use crate::{load, process};

const CONNECTIONS: usize = 64;
const BYTES: usize = 1024;

struct Row {
    name: String,
    process: Process,
    target: SocketAddr,
    request: Vec<u8>,
    micros: Vec<f64>,
}

/// Measures all rows, interleaved in rounds.
pub(super) async fn measure(scope: &Scope, progress: &Progress) -> Result<Section> {
    let folder = TempDir::with_prefix("tundish-bench-")?;
    let foundry = Foundry::start(folder.path(), &[]).await?;
    let store = Redis::start()?;
    let mut rows = vec![bare(foundry.address, folder.path()).await?];
    for counters in scope.counters() {
        for limits in [0, 1, 3, 10] {
            // Without a limit there is nothing to count.
            if limits == 0 && counters == Counters::Store {
                continue;
            }
            let url = (counters == Counters::Store).then(|| store.url());
            rows.push(gateway(&foundry, folder.path(), limits, url.as_deref()).await?);
        }
    }
    let time = Duration::from_secs(if scope.quick { 1 } else { 2 });
    for row in &rows {
        load::closed_loop(row.target, &row.request, CONNECTIONS, time / 2).await?;
    }
    for round in 0..scope.rounds {
        progress.tell(&format!("cost: round {} of {}", round + 1, scope.rounds));
        for row in &mut rows {
            let before = process::cpu(row.process.id())?;
            let outcome = load::closed_loop(row.target, &row.request, CONNECTIONS, time).await?;
            let used = process::cpu(row.process.id())?.saturating_sub(before);
            row.micros
                .push(used.as_secs_f64() * 1e6 / float(outcome.latencies.count()));
        }
    }
    Ok(section(scope, &rows, time))
}

async fn bare(upstream: SocketAddr, folder: &Path) -> Result<Row> {
    let target = local(free_port()?);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", "--listen", &target.to_string()]);
    command.args(["--upstream", &upstream.to_string()]);
    let mut process = Process::spawn("bare", &mut command, folder)?;
    let url = format!("http://{target}/_sim/billed");
    process.wait_for_http(&url, Duration::from_secs(20)).await?;
    Ok(Row {
        name: "bare hyper".to_owned(),
        process,
        target,
        request: load::chat(target, "api-key: sim-key", BYTES),
        micros: Vec::new(),
    })
}

async fn gateway(
    foundry: &Foundry,
    folder: &Path,
    limits: usize,
    store: Option<&str>,
) -> Result<Row> {
    let place = if store.is_some() { "store" } else { "memory" };
    let name = format!("{limits}-{place}");
    let mut text = ROUTE.replace("UPSTREAM", &foundry.address.to_string());
    text.push_str(&consumer("ann", "all"));
    if limits > 0 {
        let list: Vec<String> = LIMITS.into_iter().take(limits).map(limit).collect();
        text.push_str(&quota("all", "Share", &format!("[{}]", list.join(", "))));
    }
    let manifests = folder.join(&name);
    std::fs::create_dir(&manifests)?;
    std::fs::write(manifests.join("all.yaml"), text)?;
    let mut command = rig::run(&manifests, 1, store)?;
    let replica = rig::replica(&format!("tundish-{name}"), &mut command, folder).await?;
    let target = replica.address;
    Ok(Row {
        name: match limits {
            0 => "no limit".to_owned(),
            1 => format!("1 limit, {place}"),
            more => format!("{more} limits, {place}"),
        },
        process: replica.process,
        target,
        request: load::chat(target, "authorization: Bearer ann", BYTES),
        micros: Vec::new(),
    })
}

fn section(scope: &Scope, rows: &[Row], time: Duration) -> Section {
    let floor: Vec<f64> = rows
        .first()
        .map(|row| row.micros.clone())
        .unwrap_or_default();
    let none = rows.get(1).map_or(0.0, |row| median(&row.micros));
    let table = rows.iter().enumerate().map(|(number, row)| {
        let ratios: Vec<f64> = row.micros.iter().zip(&floor).map(|(a, b)| a / b).collect();
        let above = match number {
            0 | 1 => "-".to_owned(),
            _ => format!("{:+.1}", median(&row.micros) - none),
        };
        vec![
            row.name.clone(),
            spread(&row.micros, 1),
            spread(&ratios, 2),
            above,
        ]
    });
    Section {
        title: "CPU of the limits",
        text: format!(
            "CPU-us of the gateway per JSON chat of 1 KB, key checked, no access log: closed loop over \
             {CONNECTIONS} connections, one thread, {} rounds of {} s, medians (least to most).",
            scope.rounds,
            time.as_secs()
        ),
        header: vec![
            "row",
            "CPU-us per request",
            "x bare hyper",
            "more than no limit",
        ],
        rows: table.collect(),
    }
}
