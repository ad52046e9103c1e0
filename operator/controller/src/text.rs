//! Texts within the bounds of the API server.

/// The end of a shortened text.
const ELLIPSIS: &str = "...";

/// The text, shortened to at most `longest` bytes; a shortened one ends with an ellipsis.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests;
