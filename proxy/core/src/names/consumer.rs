//! Consumers in objects: `namespace/name`, everywhere.

use std::fmt;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Attributes of a consumer, by name. Few, so a sorted list.
pub type Attributes = Vec<(Arc<str>, Arc<str>)>;

/// Stands for any namespace. No namespace has this name.
const ANY: &str = "*";

/// A consumer that an object names: `namespace/name`. Callers without a Secret have an empty
/// namespace: `/anonymous`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName {
    /// The namespace of its Secret. `None` = any, as written by operators that compared names only.
    pub namespace: Option<Arc<str>>,
    /// Its name, which may have slashes.
    pub name: Arc<str>,
}

/// A pattern over consumers. An empty list matches everyone; both lists must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMatch {
    /// One of these, if any are listed.
    pub names: Vec<ConsumerName>,
    /// All of these attributes.
    pub attributes: Attributes,
}

// === impl ConsumerName ===

impl ConsumerName {
    /// The consumer `name` of `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// The consumers `name` of every namespace.
    pub fn anywhere(name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
        }
    }

    /// Reads `namespace/name`; `*` stands for any namespace. `None` without a slash, or if no namespace has what
    /// stands in front of it: subjects of tokens may have slashes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let is_of_label = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if namespace != ANY && !namespace.bytes().all(is_of_label) {
            return None;
        }
        Some(match namespace {
            ANY => Self::anywhere(name),
            namespace => Self::new(namespace, name),
        })
    }

    /// Whether it is the consumer `name` of `namespace`.
    #[must_use]
    pub fn matches(&self, namespace: &str, name: &str) -> bool {
        *self.name == *name
            && self
                .namespace
                .as_ref()
                .is_none_or(|one| **one == *namespace)
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref().unwrap_or(ANY);
        write!(f, "{namespace}/{}", self.name)
    }
}

// === impl ConsumerMatch ===

impl ConsumerMatch {
    /// Whether the pattern matches the consumer `name` of `namespace` with these attributes.
    #[must_use]
    pub fn matches(&self, namespace: &str, name: &str, attributes: &Attributes) -> bool {
        (self.names.is_empty() || self.names.iter().any(|one| one.matches(namespace, name)))
            && self
                .attributes
                .iter()
                .all(|wanted| attributes.contains(wanted))
    }
}
