//! Breaches that are known and not fixed yet.

use std::collections::BTreeSet;

/// Compares what a check found with the breaches that are known. A known breach that is gone must leave
/// the list, so that it cannot come back.
///
/// # Errors
/// The breaches that are not known, and the known ones that are gone.
pub fn compare(found: impl IntoIterator<Item = String>, known: &[&str]) -> Result<(), String> {
    let found: BTreeSet<String> = found.into_iter().collect();
    let known: BTreeSet<String> = known.iter().map(|one| (*one).to_owned()).collect();
    let new = found.difference(&known).map(|one| format!("new: {one}"));
    let gone = known
        .difference(&found)
        .map(|one| format!("fixed, so remove it from the list: {one}"));
    let lines: Vec<String> = new.chain(gone).collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(format!("\n{}", lines.join("\n")))
}
