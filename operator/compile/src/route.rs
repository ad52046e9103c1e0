//! AIRoutes. One in error keeps its matches and answers an error, so that a broader route never
//! takes its traffic; a reference in error is left out, and the rest of its rule serves.

use std::collections::{BTreeMap, BTreeSet};

use crds::Reason;
use proxy_core::auth::Key;
use proxy_core::table::Route;

use crate::consumer::{Admitted, Selector, UnusableKey};
use crate::diagnostic::{Findings, Verdict};
use crate::host_claim::HostClaims;
use crate::index::{Index, Stored};
use crate::object::{Kind, ObjectRef};
use crate::reference::References;

mod collision;
mod draft;
mod issuer;
mod issuer_claims;
mod rule;

use draft::{CONDITIONS, draft};
pub(crate) use rule::{consumer, consumers, models};

/// Compiles every AIRoute, and the keys that the routes select.
pub(crate) fn compile(
    index: &Index,
    references: &References<'_>,
    hosts: &HostClaims<'_>,
    verdicts: &mut BTreeMap<ObjectRef, Verdict>,
) -> (Vec<Route>, Vec<Key>, BTreeSet<UnusableKey>) {
    let mut selector = Selector::new(&index.secrets);
    let mut drafts = Vec::with_capacity(index.routes.len());
    for (name, stored) in &index.routes {
        match stored {
            Stored::Decoded(route) => {
                drafts.push(draft(name, route, references, hosts, &mut selector));
            }
            Stored::Undecodable {
                generation,
                message,
                remains: left,
            } => {
                let object = ObjectRef::new(Kind::AiRoute, name.clone());
                let mut findings = Findings::new(object.clone());
                findings.invalid("", format!("the object can't be read: {message}"));
                findings.unresolved(Reason::Invalid, "", "the object can't be read");
                if let Some(route) = left {
                    let whole = draft(name, route, references, hosts, &mut selector);
                    drafts.push(whole.remains(findings));
                } else {
                    verdicts.insert(object, findings.verdict(*generation, &CONDITIONS, false));
                }
            }
        }
    }
    issuer_claims::find(&mut drafts, hosts.own_namespace());
    collision::find(&mut drafts);
    let (keys, admitted) = selector.judge();
    let none = Admitted::default();
    let mut routes = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let object = ObjectRef::new(Kind::AiRoute, draft.name.clone());
        let admitted = draft.selection.and_then(|place| admitted.get(place));
        let (route, verdict) = draft.finish(admitted.unwrap_or(&none));
        routes.extend(route);
        verdicts.insert(object, verdict);
    }
    let unusable = admitted.into_iter().flat_map(|one| one.unusable).collect();
    (routes, keys, unusable)
}

#[cfg(test)]
mod tests;
