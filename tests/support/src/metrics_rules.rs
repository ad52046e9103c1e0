//! What `promtool check metrics` asks of a page in the text format, so that a test needs no tool.
//!
//! The rules are those of `promlint` in Prometheus' Go client.

use std::collections::{BTreeMap, BTreeSet};

/// The suffixes of a histogram's samples.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Units that have a base unit: seconds, bytes, meters and so on.
const UNITS: [&str; 18] = [
    "minutes",
    "hours",
    "days",
    "weeks",
    "kelvins",
    "fahrenheit",
    "rankine",
    "inches",
    "yards",
    "miles",
    "bits",
    "calories",
    "pounds",
    "ounces",
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "kilobytes",
];
const ABBREVIATIONS: [&str; 14] = [
    "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d",
];

/// A family as the page declares it.
#[derive(Debug, Default)]
struct Family<'a> {
    help: &'a str,
    kind: &'a str,
    labels: BTreeSet<&'a str>,
}

/// What is wrong with a page, one text for each problem.
#[must_use]
pub fn metrics_problems(page: &str) -> Vec<String> {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    let mut problems = Vec::new();
    let mut samples = BTreeSet::new();
    for line in page.lines() {
        if let Some((name, help)) = described(line, "# HELP ") {
            families.entry(name).or_default().help = help;
        } else if let Some((name, kind)) = described(line, "# TYPE ") {
            families.entry(name).or_default().kind = kind;
        } else if line.starts_with('#') {
            problems.push(format!("{line}: not of the text format"));
        } else if let Some((series, value)) = line.rsplit_once(' ') {
            if !samples.insert(series) {
                problems.push(format!("{series}: twice"));
            }
            if value.parse::<f64>().is_err() {
                problems.push(format!("{line}: not a number"));
            }
            let name = series.split('{').next().unwrap_or(series);
            let of_histogram = OF_HISTOGRAMS
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|name| {
                    families
                        .get(name)
                        .is_some_and(|one| one.kind == "histogram")
                });
            match families.get_mut(of_histogram.unwrap_or(name)) {
                Some(family) => family.labels.extend(labels(series)),
                None => problems.push(format!("{name}: a sample without a family")),
            }
        } else {
            problems.push(format!("{line}: not a sample"));
        }
    }
    for (name, family) in families {
        problems.extend(
            broken(name, &family)
                .iter()
                .map(|why| format!("{name}: {why}")),
        );
    }
    problems
}

fn described<'a>(line: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(prefix)?.split_once(' ')
}

/// The names of a series' labels. Their values hold no comma followed by a name and `="`.
fn labels(series: &str) -> impl Iterator<Item = &str> {
    let inside = series
        .split_once('{')
        .and_then(|(_, rest)| rest.strip_suffix('}'));
    let pairs = inside.unwrap_or_default().split("\",");
    pairs.filter_map(|pair| pair.split_once("=\"").map(|(name, _)| name))
}

/// The rules that a family breaks.
fn broken(name: &str, family: &Family<'_>) -> Vec<&'static str> {
    let words: Vec<&str> = name.split('_').collect();
    let is_histogram = family.kind == "histogram";
    let ends_like_one = || OF_HISTOGRAMS.iter().any(|suffix| name.ends_with(suffix));
    let is_camel_case = |name: &str| name.bytes().any(|byte| byte.is_ascii_uppercase());
    let rules = [
        (family.help.trim().is_empty(), "no help text"),
        (family.kind.is_empty(), "no type"),
        (
            (family.kind == "counter") != name.ends_with("_total"),
            "counters end in _total, and nothing else does",
        ),
        (
            !is_histogram && ends_like_one(),
            "its suffix is one of histograms",
        ),
        (
            !is_histogram && family.labels.contains("le"),
            "its label is one of histograms",
        ),
        (
            family.labels.contains("quantile"),
            "its label is one of summaries",
        ),
        (
            words.iter().skip(1).any(|word| *word == family.kind),
            "its type is in its name",
        ),
        (
            words.iter().any(|word| UNITS.contains(word)),
            "its unit is no base unit",
        ),
        (
            words
                .iter()
                .skip(1)
                .any(|word| ABBREVIATIONS.contains(word)),
            "its unit is abbreviated",
        ),
        (name.contains(':'), "colons are for recording rules"),
        (
            is_camel_case(name) || family.labels.iter().any(|label| is_camel_case(label)),
            "names are in snake case",
        ),
    ];
    let broken = rules.into_iter().filter(|(is_broken, _)| *is_broken);
    broken.map(|(_, why)| why).collect()
}

#[cfg(test)]
mod tests;
