//! Compiles an index into a table and verdicts.

use std::collections::{BTreeMap, BTreeSet};

use proxy_core::table::Contents;

use crate::backend::Backends;
use crate::consumer::UnusableKey;
use crate::covered::Routes;
use crate::diagnostic::Verdict;
use crate::grant::Permissions;
use crate::host_claim::HostClaims;
use crate::index::Index;
use crate::listener::{GatewayVerdicts, Listeners};
use crate::mixed::MixedRules;
use crate::object::{Kind, ObjectRef};
use crate::reference::References;
use crate::settings::Settings;
use crate::unmatched::Unmatched;
use crate::unpriced::Prices;
use crate::{attachment, quota, retirement, route};

/// A table, and the verdicts on its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The table.
    pub contents: Contents,
    /// One for each AIBackend, AIRoute and AIQuota, including undecodable ones.
    pub verdicts: BTreeMap<ObjectRef, Verdict>,
    /// Secrets that routes select, and whose keys admit no caller.
    pub unusable_keys: BTreeSet<UnusableKey>,
    /// Of the class and the Gateways of the installation.
    pub gateways: GatewayVerdicts,
}

/// Compiles `index`. Cost: linear in the objects and in the keys that routes select.
#[must_use]
pub fn compile(index: &Index, settings: &Settings) -> Compiled {
    let mut verdicts = BTreeMap::new();
    let backends = Backends::new(index, settings, &mut verdicts);
    let permissions = Permissions::new(index.grants.values());
    let references = References {
        backends: &backends,
        permissions: &permissions,
        grants_served: settings.grants_served,
    };
    let gateways = settings.gateways.as_ref();
    let listeners = gateways.map(|all| Listeners::new(all, &settings.own_namespace, &index.grants));
    let hosts = HostClaims::new(index, settings, listeners.as_ref());
    let (routes, keys, unusable_keys) = route::compile(index, &references, &hosts, &mut verdicts);
    let attached = attachment::attached(&verdicts);
    let gateways = listeners.map(|listeners| listeners.verdicts(attached));
    retirement::judge(index, &routes, settings.today, &mut verdicts);
    let by_scope = Routes::new(&routes);
    let reach = quota::Reach {
        prices: Prices::new(by_scope, &backends, &settings.own_namespace),
        mixed: MixedRules::new(&routes, &backends),
        unmatched: Unmatched::new((index, settings), by_scope, &backends, &keys),
    };
    let quotas = quota::compile(index, &settings.own_namespace, &reach, &mut verdicts);
    debug_assert!(verdicts.keys().all(|object| object.kind <= Kind::AiQuota));
    Compiled {
        contents: Contents::new(backends.into_usable(), routes, quotas, keys),
        verdicts,
        unusable_keys,
        gateways: gateways.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
