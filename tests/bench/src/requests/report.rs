//! A table and the bars of a workload, from its samples.

use super::chart::{Bar, Group};
use super::sample::Row;
use super::workload::{Load, Workload};
use crate::figures::{Spread, median, ratios, spread};
use crate::latency::Latencies;
use crate::page::{Section, filled};
use crate::subject::Subject;

fn cpu(row: &Row) -> Vec<f64> {
    row.samples.iter().map(|sample| sample.cpu_micros).collect()
}

fn rate(row: &Row) -> Vec<f64> {
    row.samples.iter().map(|sample| sample.per_second).collect()
}

fn find<'a>(rows: &'a [Row], name: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.name == name)
}

/// Requests per second beside nginx, one thread each; only where both are at their limit.
fn beside_nginx(rows: &[Row], row: &Row) -> String {
    find(rows, "nginx").map_or_else(
        || "-".to_owned(),
        |nginx| spread(&ratios(&rate(row), &rate(nginx)), 2),
    )
}

/// What a setting of the gateway costs beside the same build without it.
fn beside_plain(rows: &[Row], row: &Row) -> String {
    let plain = row.name.split_once(", ").map(|(plain, _)| plain);
    plain.and_then(|plain| find(rows, plain)).map_or_else(
        || "-".to_owned(),
        |plain| spread(&ratios(&cpu(row), &cpu(plain)), 2),
    )
}

pub(super) fn section(workload: &Workload, rows: &[Row]) -> Section {
    let reference = find(rows, workload.reference())
        .map(cpu)
        .unwrap_or_default();
    let columns: &[_] = match workload.load {
        Load::Requests { .. } => &[
            "row",
            "CPU-us per request",
            workload.compared,
            "x one limit, no log",
            "requests/s",
            "requests/s x nginx",
            "p50 us",
            "p99 us",
        ],
        Load::Events { .. } => &["row", "CPU-us per event", workload.compared, "events/s"],
    };
    let table = rows.iter().map(|row| {
        let cpu = cpu(row);
        let mut cells = vec![
            row.name.clone(),
            spread(&cpu, 2),
            spread(&ratios(&cpu, &reference), 2),
        ];
        let rate = format!("{:.0}", median(&rate(row)));
        match workload.load {
            Load::Requests { .. } => {
                cells.extend([beside_plain(rows, row), rate, beside_nginx(rows, row)]);
                let all = together(row);
                let shown = |share| all.as_ref().map_or(0, |all| all.micros(share)).to_string();
                cells.extend([shown(0.5), shown(0.99)]);
            }
            Load::Events { .. } => cells.push(rate),
        }
        cells
    });
    let (header, table) = filled(columns, table.collect());
    Section {
        title: workload.title,
        text: format!("`--workload {}`. {}", workload.name, workload.note),
        header,
        rows: table,
    }
}

/// The latencies of all rounds.
fn together(row: &Row) -> Option<Latencies> {
    let mut all = Latencies::new().ok()?;
    for latencies in row
        .samples
        .iter()
        .filter_map(|sample| sample.latencies.as_ref())
    {
        all.add(latencies).ok()?;
    }
    Some(all)
}

/// The ratios of a workload, without the row that has no proxy.
pub(super) fn bars(workload: &Workload, rows: &[Row]) -> Option<Group> {
    // One connection is for latency; its CPU is that of an idle machine.
    if matches!(workload.load, Load::Requests { connections: 1, .. }) {
        return None;
    }
    let reference = find(rows, workload.reference()).map(cpu)?;
    let bars = rows.iter().filter(|row| !row.name.starts_with("no proxy"));
    let bars = bars.map(|row| Bar {
        name: row.name.clone(),
        ratio: Spread::of(&ratios(&cpu(row), &reference)),
        ours: matches!(row.lane.subject, Subject::Tundish(_)),
    });
    Some(Group {
        title: format!("{} (x {})", workload.title, workload.reference()),
        bars: bars.collect(),
    })
}
