//! The page that documents the metrics of a process, from the output of its registry.

use std::fmt::Write;

use crate::metrics_rules::metrics_problems;

/// A Markdown page with a row for each family of `encoded`, which must hold a sample of each: the
/// encoder leaves out families without one.
///
/// # Panics
/// A family has no type, which the encoder never leaves out, or breaks a rule of `promtool check metrics`.
#[must_use]
pub fn metrics_page(title: &str, encoded: &str) -> String {
    let mut page = format!(
        "# {title}\n\nGenerated from the code.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n"
    );
    for line in encoded.lines() {
        let family = line
            .strip_prefix("# HELP ")
            .and_then(|line| line.split_once(' '));
        let Some((name, help)) = family else { continue };
        let kind = encoded
            .lines()
            .find_map(|line| {
                line.strip_prefix("# TYPE ")?
                    .strip_prefix(name)?
                    .strip_prefix(' ')
            })
            .expect("every family has a type");
        let labels = encoded
            .lines()
            .find(|line| line.starts_with(name) && line.contains('{'))
            .and_then(|line| line.split_once('{')?.1.rsplit_once('}'))
            .map_or(String::new(), |(labels, _)| {
                let names = labels.split(',').filter_map(|label| label.split_once('='));
                let names = names.map(|(name, _)| name).filter(|name| *name != "le");
                names
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(" ")
            });
        let (suffix, plain_kind) = match kind {
            "counter" => ("_total", kind),
            "info" => ("_info", "gauge"),
            _ => ("", kind),
        };
        // As a scraper sees the family that asks for the text format.
        let declared =
            format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {plain_kind}\n");
        assert_eq!(metrics_problems(&declared), [""; 0]);
        writeln!(page, "| `{name}{suffix}` | {kind} | {labels} | {help} |").expect("a string");
    }
    page
}
