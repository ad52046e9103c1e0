//! Secrets by their labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proxy_core::names::ObjectName;

/// By label and value.
type OfNamespace = HashMap<String, HashMap<String, BTreeSet<ObjectName>>>;

/// Finds Secrets by their labels.
#[derive(Debug, Default)]
pub(crate) struct Labels(HashMap<Arc<str>, OfNamespace>);

// === impl Labels ===

impl Labels {
    pub(crate) fn insert(&mut self, name: &ObjectName, labels: &BTreeMap<String, String>) {
        if labels.is_empty() {
            return;
        }
        let of_namespace = self.0.entry(name.namespace().into()).or_default();
        for (label, value) in labels {
            let values = of_namespace.entry(label.clone()).or_default();
            let names = values.entry(value.clone()).or_default();
            names.insert(name.clone());
        }
    }

    /// Takes out a Secret that has these labels.
    pub(crate) fn remove(&mut self, name: &ObjectName, labels: &BTreeMap<String, String>) {
        let Some(of_namespace) = self.0.get_mut(name.namespace()) else {
            return;
        };
        for (label, value) in labels {
            let Some(values) = of_namespace.get_mut(label) else {
                continue;
            };
            if let Some(names) = values.get_mut(value) {
                names.remove(name);
                if names.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                of_namespace.remove(label);
            }
        }
        if of_namespace.is_empty() {
            self.0.remove(name.namespace());
        }
    }

    /// The Secrets of a namespace with all of `wanted`, sorted. Empty labels find no Secret.
    pub(crate) fn find(
        &self,
        namespace: &str,
        wanted: &BTreeMap<String, String>,
    ) -> Vec<ObjectName> {
        let of_namespace = self.0.get(namespace);
        let lists = wanted
            .iter()
            .map(|(label, value)| of_namespace?.get(label)?.get(value));
        let Some(mut lists) = lists.collect::<Option<Vec<_>>>() else {
            return Vec::new();
        };
        lists.sort_by_key(|list| list.len());
        let Some((shortest, others)) = lists.split_first() else {
            return Vec::new();
        };
        let has_all = |name: &&ObjectName| others.iter().all(|list| list.contains(*name));
        shortest.iter().filter(has_all).cloned().collect()
    }
}
