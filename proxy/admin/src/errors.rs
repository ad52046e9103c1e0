//! Errors on one line of a log.

use std::error::Error;

/// The error and all its sources, joined by `: `, without line breaks.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Some libraries repeat the source in their own message.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests;
