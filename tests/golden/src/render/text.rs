//! Lines and lists.

use std::fmt::{Display, Write};

use proxy_core::names::{Attributes, ConsumerMatch};

pub(super) fn line(out: &mut String, depth: usize, text: impl Display) {
    writeln!(out, "{:width$}{text}", "", width = depth.saturating_mul(2))
        .expect("text can be written to a string");
}

pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "any".to_owned()
    } else {
        items.join(", ")
    }
}

pub(super) fn consumer_match(consumers: &ConsumerMatch) -> String {
    let ConsumerMatch { names, attributes } = consumers;
    format!(
        "consumers: {}; attributes: {}",
        list(names),
        pairs(attributes)
    )
}

pub(super) fn pairs(attributes: &Attributes) -> String {
    list(
        attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    )
}
