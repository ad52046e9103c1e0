//! Everything that is declared, compiled to what the gateway follows.

use std::collections::BTreeMap;

use proxy_core::table::Contents;

use crate::backend::Backends;
use crate::diagnostic::Verdict;
use crate::grant::Permissions;
use crate::index::Index;
use crate::object::{Kind, ObjectRef};
use crate::reference::References;
use crate::{quota, route};

/// What an installation knows about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The installation's own namespace: AIQuotas without `targetRefs` here cover the gateway.
    pub own_namespace: String,
    /// Whether ReferenceGrants exist here; without them nothing crosses a namespace.
    pub grants_served: bool,
}

/// A table, and what was found out about the objects that it was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What the gateway follows.
    pub contents: Contents,
    /// One for each AIBackend, AIRoute and AIQuota, the undecodable ones too.
    pub verdicts: BTreeMap<ObjectRef, Verdict>,
}

/// Compiles `index`. The same objects give the same result. Cost: linear in the objects and in the
/// keys that routes select.
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
