//! ReferenceGrants: the references across namespaces that the owner of the target permits.

use std::collections::HashSet;

use proxy_core::names::ObjectName;
use serde_json::Value;

use crate::namespace;
use crate::reads::{Reads, Subject};

/// A ReferenceGrant: it permits references to objects of its own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub name: ObjectName,
    /// The objects that may refer.
    pub from: Vec<GrantFrom>,
    /// The objects that they may refer to.
    pub to: Vec<GrantTo>,
}

/// Objects that may refer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFrom {
    /// Their API group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects that may be referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTo {
    /// Their API group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// One object; `None` means every object of the kind.
    pub name: Option<String>,
}

/// Every permitted reference from an AIRoute to an AIBackend.
#[derive(Debug)]
pub(crate) struct Permissions<'a> {
    /// Target namespace, source namespace, and target name (`None` means all).
    permitted: HashSet<(&'a str, &'a str, Option<&'a str>)>,
    reads: &'a Reads,
}

// === impl Grant ===

impl Grant {
    /// Reads a ReferenceGrant of `gateway.networking.k8s.io`, any version. `None` if it has no name
    /// or a field of another shape: such a grant permits nothing.
    #[must_use]
    pub fn from_json(object: &Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let namespace = optional_text(metadata, "namespace")?;
        let name = text(metadata, "name")?;
        let spec = object.get("spec")?;
        let from = spec.get("from")?.as_array()?.iter().map(|from| {
            Some(GrantFrom {
                group: text(from, "group")?,
                kind: text(from, "kind")?,
                namespace: text(from, "namespace")?,
            })
        });
        let to = spec.get("to")?.as_array()?.iter().map(|to| {
            Some(GrantTo {
                group: text(to, "group")?,
                kind: text(to, "kind")?,
                // An empty name means the same as no name, as in the API.
                name: optional_text(to, "name")?.filter(|name| !name.is_empty()),
            })
        });
        Some(Self {
            name: ObjectName::new(namespace.as_deref().unwrap_or(namespace::DEFAULT), name),
            from: from.collect::<Option<_>>()?,
            to: to.collect::<Option<_>>()?,
        })
    }
}

fn text(object: &Value, field: &str) -> Option<String> {
    object.get(field)?.as_str().map(str::to_owned)
}

/// `None` if the field is present and no text.
fn optional_text(object: &Value, field: &str) -> Option<Option<String>> {
    match object.get(field) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_str().map(|text| Some(text.to_owned())),
    }
}

// === impl Permissions ===

impl<'a> Permissions<'a> {
    pub(crate) fn new(grants: impl Iterator<Item = &'a Grant>, reads: &'a Reads) -> Self {
        let mut permitted = HashSet::new();
        for grant in grants {
            let sources = grant.from.iter();
            let sources =
                sources.filter(|from| from.group == crds::GROUP && from.kind == "AIRoute");
            for from in sources {
                for to in &grant.to {
                    if to.group == crds::GROUP && to.kind == "AIBackend" {
                        permitted.insert((
                            grant.name.namespace(),
                            from.namespace.as_str(),
                            to.name.as_deref(),
                        ));
                    }
                }
            }
        }
        Self { permitted, reads }
    }

    /// Whether an AIRoute of `namespace` may refer to the AIBackend `target`, existing or not.
    pub(crate) fn permit(&self, namespace: &str, target: &ObjectName) -> bool {
        let to = target.namespace();
        self.reads.namespace(Subject::Grant, to);
        self.permitted.contains(&(to, namespace, None))
            || self
                .permitted
                .contains(&(to, namespace, Some(target.name())))
    }
}

#[cfg(test)]
mod tests;
