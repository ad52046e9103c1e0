//! The committed figures: what they were, what may be added to them, and what has grown.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::callgrind::Counts;
use super::probe::{MAIN, reads_clock_by_chance};
use crate::figures::float;
use crate::page::{filled, table as markdown};

/// Instructions may grow by this share: a build on another machine differs by less.
const SLACK: f64 = 0.02;

/// Calls per request may grow by this much.
const CALLS: f64 = 0.5;

/// Below this a system call is an accident of the run.
const RARE: f64 = 0.005;

/// System calls that are shown and not held: how many there are depends on where the end of the heap
/// happens to be.
const HEAP: [&str; 6] = ["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"];

/// The figures of each case, by its name.
pub(super) type Rows = BTreeMap<String, Figures>;

/// Per request, or per event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    instructions: f64,
    allocations: f64,
    clock_reads: f64,
    syscalls: BTreeMap<String, f64>,
}

impl Figures {
    /// From sums, and the number that they are sums of.
    pub(super) fn new((counts, units): (Counts, f64), syscalls: BTreeMap<String, f64>) -> Self {
        let hundredths = |value: f64| (value * 100.0).round() / 100.0;
        let syscalls = syscalls.into_iter().filter(|(_, calls)| *calls >= RARE);
        Self {
            instructions: (float(counts.instructions) / units).round(),
            allocations: hundredths(float(counts.allocations) / units),
            clock_reads: hundredths(float(counts.clock_reads) / units),
            syscalls: syscalls
                .map(|(name, calls)| (name, hundredths(calls)))
                .collect(),
        }
    }

    fn calls(&self) -> f64 {
        let held = self
            .syscalls
            .iter()
            .filter(|(name, _)| !HEAP.contains(&name.as_str()));
        held.map(|(_, calls)| calls).sum()
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// How the file is used, for its readers.
    about: Vec<String>,
    /// Instructions that work to come may add at 1 KB.
    budgets: BTreeMap<String, f64>,
    pub(super) rows: Rows,
}

impl Baseline {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("write the baseline")?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())
    }

    /// What is left of the budgets, in a line.
    pub(super) fn budgets(&self) -> String {
        let budgets = self.budgets.iter();
        let budgets: Vec<String> = budgets
            .map(|(name, left)| format!("{name} {left:.0}"))
            .collect();
        format!("May be added at 1 KB: {}.", budgets.join(", "))
    }

    /// Takes new figures. A budget that is spent must cover the growth, and is gone then.
    pub(super) fn rebase(&mut self, now: Rows, spend: Option<&str>) -> Result<()> {
        if let Some(name) = spend {
            let budget = self.budgets.remove(name);
            let budget = budget.with_context(|| format!("no budget is named {name}"))?;
            let of = |rows: &Rows| rows.get(MAIN).map_or(0.0, |row| row.instructions);
            let grown = of(&now) - of(&self.rows);
            ensure!(
                grown <= budget,
                "{MAIN} has grown by {grown:.0} instructions, and {name} may add {budget:.0}"
            );
        }
        self.rows = now;
        Ok(())
    }
}

/// What has grown by more than it may, in words.
pub(super) fn grown(now: &Rows, baseline: &Baseline) -> Vec<String> {
    let mut found = Vec::new();
    for (name, now) in now {
        let Some(before) = baseline.rows.get(name) else {
            continue;
        };
        let mut check = |what: &str, now: f64, before: f64, most: f64| {
            if now > most {
                found.push(format!("{name}: {what} {before} -> {now}"));
            }
        };
        let most = before.instructions * (1.0 + SLACK);
        check("instructions", now.instructions, before.instructions, most);
        let mut calls = |what, now, before| check(what, now, before, before + CALLS);
        calls("allocations", now.allocations, before.allocations);
        calls("system calls", now.calls(), before.calls());
        if !reads_clock_by_chance(name) {
            calls("clock reads", now.clock_reads, before.clock_reads);
        }
    }
    found
}

/// Now, and before where there is one, as markdown.
pub(super) fn table(now: &Rows, before: &Rows) -> String {
    let columns = [
        "row",
        "instructions",
        "baseline",
        "growth",
        "allocations",
        "clock reads",
        "system calls",
    ];
    let rows = now.iter().map(|(name, now)| {
        let before = before.get(name);
        let shown = |value: fn(&Figures) -> f64| match before {
            Some(before) => format!("{:.2} (was {:.2})", value(now), value(before)),
            None => format!("{:.2}", value(now)),
        };
        let (old, growth) = match before.map(|before| before.instructions) {
            Some(before) => {
                let percent = (now.instructions / before - 1.0) * 100.0;
                (format!("{before:.0}"), format!("{percent:+.2} %"))
            }
            None => ("-".to_owned(), "-".to_owned()),
        };
        let calls = now.syscalls.iter();
        let calls: Vec<String> = calls
            .map(|(name, calls)| format!("{name} {calls:.2}"))
            .collect();
        vec![
            name.clone(),
            format!("{:.0}", now.instructions),
            old,
            growth,
            shown(|row| row.allocations),
            shown(|row| row.clock_reads),
            format!("{}: {}", shown(Figures::calls), calls.join(", ")),
        ]
    });
    let (header, rows) = filled(&columns, rows.collect());
    markdown(&header, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(instructions: u64, allocations: u64, writes: f64) -> Figures {
        let counts = Counts {
            instructions: instructions * 100,
            allocations: allocations * 100,
            clock_reads: 200,
        };
        let calls = [("write", writes), ("futex", 0.004), ("brk", writes * 2.0)];
        let calls = calls.map(|(name, calls)| (name.to_owned(), calls));
        Figures::new((counts, 100.0), BTreeMap::from(calls))
    }

    fn rows(figures: Figures) -> Rows {
        Rows::from([(MAIN.to_owned(), figures)])
    }

    fn baseline() -> Baseline {
        Baseline {
            about: vec!["text".to_owned()],
            budgets: BTreeMap::from([("truth".to_owned(), 400.0)]),
            rows: rows(figures(10_000, 20, 2.0)),
        }
    }

    #[test]
    fn growth_is_found_above_its_bound_only() {
        let grown = |now| grown(&rows(now), &baseline());
        assert!(grown(figures(10_200, 20, 2.5)).is_empty());
        assert!(grown(figures(5_000, 1, 0.0)).is_empty());
        assert_eq!(
            grown(figures(10_201, 21, 2.51)),
            [
                "tundish, 1 KB: instructions 10000 -> 10201",
                "tundish, 1 KB: allocations 20 -> 21",
                "tundish, 1 KB: system calls 2 -> 2.51"
            ]
        );
    }

    #[test]
    fn clock_reads_are_not_held_where_chance_decides() {
        let later = |name: &str| {
            let mut now = figures(10_000, 20, 2.0);
            now.clock_reads += 1.0;
            let mut baseline = baseline();
            baseline.rows = Rows::from([(name.to_owned(), figures(10_000, 20, 2.0))]);
            grown(&Rows::from([(name.to_owned(), now)]), &baseline)
        };
        assert!(later("tundish, 200 KB").is_empty());
        assert!(later("bare hyper, 1 KB").is_empty());
        assert_eq!(later(MAIN), ["tundish, 1 KB: clock reads 2 -> 3"]);
    }

    #[test]
    fn a_spent_budget_covers_the_growth_and_is_gone() {
        let mut spent = baseline();
        spent
            .rebase(rows(figures(10_400, 20, 2.0)), Some("truth"))
            .unwrap();
        assert!(spent.budgets.is_empty());
        assert_eq!(spent.rows, rows(figures(10_400, 20, 2.0)));
        let over = rows(figures(10_401, 20, 2.0));
        assert!(baseline().rebase(over.clone(), Some("truth")).is_err());
        assert!(baseline().rebase(over.clone(), Some("other")).is_err());
        baseline().rebase(over, None).unwrap();
    }

    #[test]
    fn the_table_has_the_growth_and_the_calls_by_name() {
        let now = rows(figures(10_100, 21, 2.5));
        let compared = table(&now, &baseline().rows);
        let row = "| tundish, 1 KB | 10100 | 10000 | +1.00 % | 21.00 (was 20.00) | 2.00 (was 2.00) | \
                   2.50 (was 2.00): brk 5.00, write 2.50 |";
        assert!(compared.contains(row), "{compared}");
        let alone = table(&now, &Rows::new());
        let row = "| tundish, 1 KB | 10100 | 21.00 | 2.00 | 2.50: brk 5.00, write 2.50 |";
        assert!(alone.contains(row), "{alone}");
    }

    #[test]
    fn the_committed_file_is_read_and_written_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (committed, copy) = (
            Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json"),
            folder.path().join("copy.json"),
        );
        let baseline = Baseline::read(&committed).unwrap();
        baseline.write(&copy).unwrap();
        let [committed, copy] =
            [committed, copy].map(|file| std::fs::read_to_string(file).unwrap());
        assert_eq!(committed, copy);
    }
}
