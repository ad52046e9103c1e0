//! The balancer in simulated time: the shares of weights, the return after a failure, and what spills off a
//! provisioned deployment, by class. The decisions are those of the gateway; the endpoints are made up.

use std::path::PathBuf;

use anyhow::{Context, Result};

use tests_support::workspace;

use chart::{Line, Panel};
use spill::Spill;

mod chart;
mod comeback;
mod shares;
mod spill;
#[cfg(test)]
mod tests;

/// The loads that are offered, in per cent of the provisioned deployment.
const LOADS: [u32; 16] = [
    0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150,
];

/// `bench balance`
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {}

/// What was simulated.
#[derive(Debug)]
struct Found {
    /// Expected and measured shares.
    shares: Vec<(f64, f64)>,
    /// The share of an endpoint by the seconds since it works again.
    comeback: Vec<f64>,
    /// A third of the load of each class, with another deployment behind.
    classes: Vec<Spill>,
    /// The same without classes.
    alone: Vec<Spill>,
    /// The same with classes, and nothing behind.
    last: Vec<Spill>,
}

/// Prints the figures and writes the picture of docs/balancing.md.
#[expect(clippy::print_stdout, reason = "the output of a command")]
pub(crate) fn run(_args: &Args) -> Result<()> {
    let found = Found::simulated();
    println!("{}", found.table());
    let path = picture();
    std::fs::write(&path, chart::svg(&found.panels())).context("write the picture")?;
    println!("docs/balancing.svg is written");
    Ok(())
}

fn picture() -> PathBuf {
    workspace().join("docs/balancing.svg")
}

// === impl Found ===

impl Found {
    fn simulated() -> Self {
        let each = |split, has_next| {
            let of = |load: &u32| spill::simulated(*load, split, has_next);
            LOADS.iter().map(of).collect()
        };
        Self {
            shares: shares::simulated(),
            comeback: comeback::simulated(),
            classes: each(true, true),
            alone: each(false, true),
            last: each(true, false),
        }
    }

    fn panels(&self) -> [Panel; 3] {
        let of = |spills: &[Spill], value: &dyn Fn(&Spill) -> f64| {
            let loads = LOADS.map(f64::from).into_iter();
            let points = loads.zip(spills.iter().map(value));
            // Without calls there is no share of them.
            points.skip(1).collect::<Vec<_>>()
        };
        let [batch, standard, interactive] = [0, 1, 2].map(|class| {
            of(&self.classes, &|one| {
                one.served.get(class).copied().unwrap_or(0.0)
            })
        });
        let seconds = (0u8..).map(f64::from);
        [
            Panel {
                title: "Served by the provisioned deployment",
                across: "load, % of what it takes",
                end: 150.0,
                lines: vec![
                    line("Interactive", "a", interactive),
                    line("Standard", "b", standard),
                    line("Batch", "c", batch),
                    line("without classes", "d", of(&self.alone, &Spill::all)),
                ],
            },
            Panel {
                title: "Used, and answered with 429",
                across: "load, % of what it takes",
                end: 150.0,
                lines: vec![
                    line("used", "a", of(&self.classes, &|one| one.used)),
                    line("429", "c", of(&self.classes, &|one| one.refused)),
                    line(
                        "used, without classes",
                        "d",
                        of(&self.alone, &|one| one.used),
                    ),
                ],
            },
            Panel {
                title: "Share of two after a failure",
                across: "seconds since it works",
                end: 12.0,
                lines: vec![line(
                    "share",
                    "a",
                    seconds.zip(self.comeback.iter().copied()).collect(),
                )],
            },
        ]
    }

    fn table(&self) -> String {
        let mut lines = vec![
            "| load | Interactive | Standard | Batch | used | 429 of it | without classes | used | 429 | \
             Interactive refused where nothing is behind |"
                .to_owned(),
            "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
        ];
        let rows = LOADS
            .iter()
            .zip(&self.classes)
            .zip(&self.alone)
            .zip(&self.last);
        for (((load, classes), alone), last) in rows {
            let [batch, standard, interactive] = classes.served;
            lines.push(format!(
                "| {load} % | {interactive:.1} | {standard:.1} | {batch:.1} | {:.1} | {:.2} | {:.1} | {:.1} | {:.2} | {:.2} |",
                classes.used,
                classes.refused,
                alone.all(),
                alone.used,
                alone.refused,
                last.lost,
            ));
        }
        lines.push("All in per cent.".to_owned());
        for (expected, share) in &self.shares {
            lines.push(format!("share by weight {expected:.1} %: {share:.1} %"));
        }
        let whole = self.comeback.iter().position(|share| *share >= 45.0);
        lines.push(format!("90 % of its share after a failure: {whole:?} s"));
        lines.join("\n")
    }
}

const fn line(name: &'static str, class: &'static str, points: Vec<(f64, f64)>) -> Line {
    Line {
        name,
        class,
        points,
    }
}
