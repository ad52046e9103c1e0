//! The page that documents the metrics of a process, from the output of its registry.

use std::fmt::Write;

/// A Markdown page with a row for each family of `encoded`, which must hold a sample of each: the
/// encoder leaves out families without one.
///
/// # Panics
/// A family has no type, which the encoder never leaves out.
#[must_use]
pub fn metrics_page(title: &str, encoded: &str) -> String {
    let mut page = format!(
        "# {title}\n\nGenerated from the code. Counters end in `_total`; units are in the names.\n\n\
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
        writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").expect("writes to a string");
    }
    page
}
