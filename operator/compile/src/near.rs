//! The name that was probably meant: the nearest of those that there are.

use strsim::osa_distance;

#[cfg(test)]
mod tests;

/// Most names that are compared: an installation may have tens of thousands of consumers.
const COMPARED: usize = 2_000;

/// Most slips of a name that still count as the same.
const SLIPS: usize = 3;

/// ` (did you mean NAME?)` if one of `known` is near to `word`, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let found = nearest(word, known);
    found.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

/// The first of the nearest names, if it is as near as a slip of the pen: a letter of three, but three in
/// all. Two letters that are swapped are one slip, and case is no difference.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).min(SLIPS);
    let near = known.into_iter().take(COMPARED).filter_map(|name| {
        // A slip changes a character, which has at most four bytes.
        let is_long = name.len().abs_diff(word.len()) > most.saturating_mul(4);
        let slips = (!is_long).then(|| osa_distance(&word, &name.to_lowercase()))?;
        (slips <= most).then_some((slips, name))
    });
    near.min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}
