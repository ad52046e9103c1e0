//! Compiles an index into a table and verdicts.

use std::collections::BTreeMap;

use proxy_core::table::Contents;

use crate::backend::Backends;
use crate::diagnostic::Verdict;
use crate::grant::Permissions;
use crate::index::Index;
use crate::object::{Kind, ObjectRef};
use crate::reference::References;
use crate::{quota, route};

/// The facts about an installation that no object declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The installation's namespace: AIQuotas without `targetRefs` in it cover the whole gateway.
    pub own_namespace: String,
    /// Whether the cluster serves ReferenceGrants; without them no reference crosses namespaces.
    pub grants_served: bool,
}

/// A table, and the verdicts on its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The table.
    pub contents: Contents,
    /// One for each AIBackend, AIRoute and AIQuota, including undecodable ones.
    pub verdicts: BTreeMap<ObjectRef, Verdict>,
}

/// Compiles `index`. Cost: linear in the objects and in the keys that routes select.
#[must_use]
pub fn compile(index: &Index, settings: &Settings) -> Compiled {
    let mut verdicts = BTreeMap::new();
    let backends = Backends::new(index, &mut verdicts);
    let permissions = Permissions::new(index.grants.values());
    let references = References {
        backends: &backends,
        permissions: &permissions,
        grants_served: settings.grants_served,
    };
    let (routes, keys) = route::compile(index, &references, &mut verdicts);
    let quotas = quota::compile(index, &settings.own_namespace, &mut verdicts);
    debug_assert!(verdicts.keys().all(|object| object.kind <= Kind::AiQuota));
    Compiled {
        contents: Contents::new(backends.into_usable(), routes, quotas, keys),
        verdicts,
    }
}

#[cfg(test)]
mod tests;
