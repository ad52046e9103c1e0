//! AIRoutes. One in error keeps its matches and answers an error, so that a broader route never
//! takes its traffic; a reference in error is left out, and the rest of its rule serves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crds::{AiRoute, Reason};
use proxy_core::names::ObjectName;
use proxy_core::table::Route;

use crate::consumer::Keyring;
use crate::diagnostic::{Findings, Verdict};
use crate::host_claim::HostClaims;
use crate::index::Stored;
use crate::object::{Kind, ObjectRef};
use crate::reads::{Changes, Readers, Reads};
use crate::reference::References;

mod collision;
mod draft;
mod issuer;
mod issuer_claims;
mod rule;

use collision::Claims;
use draft::{CONDITIONS, Draft, Given, draft};
use issuer::Trusted;
pub(crate) use rule::{consumer, consumers, models};

/// Every AIRoute, validated, and what the routes take from each other. Kept from one compile to the next.
#[derive(Default)]
pub(crate) struct Drafts {
    all: BTreeMap<ObjectName, Drafted>,
    readers: Readers,
    claims: Claims,
    /// Routes that list issuers.
    issuing: BTreeSet<ObjectName>,
    /// What these have of them.
    trusted: BTreeMap<ObjectName, Trusted>,
    /// Some route lists other issuers than at the last settlement.
    issuers_differ: bool,
    /// What each route selects, in the keyring.
    selections: HashMap<ObjectName, usize>,
    /// Routes that have to be finished again.
    due: BTreeSet<ObjectName>,
}

/// A validated AIRoute.
enum Drafted {
    Whole(Box<Draft>),
    /// Nothing of it can be read.
    Unreadable(Verdict),
}

/// What a route is validated by.
pub(crate) struct Sources<'a> {
    pub(crate) references: References<'a>,
    pub(crate) hosts: HostClaims<'a>,
    pub(crate) reads: &'a Reads,
}

// === impl Drafted ===

impl Drafted {
    fn draft(&self) -> Option<&Draft> {
        match self {
            Self::Whole(draft) => Some(draft),
            Self::Unreadable(_) => None,
        }
    }
}

// === impl Drafts ===

impl Drafts {
    pub(crate) fn contains(&self, name: &ObjectName) -> bool {
        self.all.contains_key(name)
    }

    /// The routes that have read something of `changes`.
    pub(crate) fn readers_of(&self, changes: &Changes) -> BTreeSet<ObjectName> {
        self.readers.of(changes)
    }

    /// Validates a route as it is now; `None` if it is gone.
    pub(crate) fn put(
        &mut self,
        name: &ObjectName,
        stored: Option<&Stored<AiRoute>>,
        sources: &Sources<'_>,
        keyring: &mut Keyring,
    ) {
        let now = stored.map(|stored| drafted(name, stored, sources));
        self.readers.record(name, sources.reads);
        let before = self.all.remove(name);
        let (old, new) = (
            before.as_ref().and_then(Drafted::draft),
            now.as_ref().and_then(Drafted::draft),
        );
        self.due.insert(name.clone());
        self.due.extend(self.claims.change(old, new));
        let issuers = |draft: Option<&Draft>| draft.is_some_and(|draft| !draft.issuers.is_empty());
        if issuers(old) || issuers(new) {
            let is_same = old.zip(new).is_some_and(|(old, new)| old.trusts_as(new));
            self.issuers_differ |= !is_same;
        }
        if issuers(new) {
            self.issuing.insert(name.clone());
        } else {
            self.issuing.remove(name);
        }
        let labels = |draft: Option<&Draft>| draft.and_then(|draft| draft.labels.clone());
        let (old, new) = (labels(old), labels(new));
        if old != new {
            // The new ones first: what both select stays as it is.
            let selected = new.map(|labels| keyring.select(name, &labels));
            let given_up = match selected {
                Some(place) => self.selections.insert(name.clone(), place),
                None => self.selections.remove(name),
            };
            if let Some(place) = given_up {
                keyring.give_up(name, place);
            }
        }
        if let Some(now) = now {
            self.all.insert(name.clone(), now);
        }
    }

    /// Settles what the routes take from each other. Returns those that have to be finished again, and those
    /// that are gone.
    pub(crate) fn settle(
        &mut self,
        own_namespace: &str,
        reselected: BTreeSet<ObjectName>,
    ) -> BTreeSet<ObjectName> {
        self.due.extend(reselected);
        if std::mem::take(&mut self.issuers_differ) {
            let issuing = self.issuing.iter();
            let drafts = issuing.filter_map(|name| self.all.get(name)?.draft());
            let trusted = issuer_claims::judge(drafts, own_namespace);
            let differing = trusted
                .iter()
                .filter(|(name, one)| self.trusted.get(*name) != Some(*one));
            self.due.extend(differing.map(|(name, _)| name.clone()));
            self.trusted = trusted;
        }
        std::mem::take(&mut self.due)
    }

    /// The route and the verdict on it; `None` if it is gone.
    pub(crate) fn finish(
        &self,
        name: &ObjectName,
        keyring: &Keyring,
    ) -> Option<(Option<Route>, Verdict)> {
        let draft = match self.all.get(name)? {
            Drafted::Whole(draft) => draft,
            Drafted::Unreadable(verdict) => return Some((None, verdict.clone())),
        };
        let selection = self.selections.get(name);
        Some(draft.finish(&Given {
            admitted: selection.and_then(|place| keyring.admitted(*place)),
            trusted: self.trusted.get(name),
            conflicts: self.claims.conflicts(draft),
        }))
    }
}

fn drafted(name: &ObjectName, stored: &Stored<AiRoute>, sources: &Sources<'_>) -> Drafted {
    let (references, hosts) = (&sources.references, &sources.hosts);
    match stored {
        Stored::Decoded(route) => Drafted::Whole(draft(name, route, references, hosts).into()),
        Stored::Undecodable {
            generation,
            message,
            remains: left,
        } => {
            let mut findings = Findings::new(ObjectRef::new(Kind::AiRoute, name.clone()));
            findings.invalid("", format!("the object can't be read: {message}"));
            findings.unresolved(Reason::Invalid, "", "the object can't be read");
            if let Some(route) = left {
                let whole = draft(name, route, references, hosts);
                Drafted::Whole(whole.remains(findings).into())
            } else {
                Drafted::Unreadable(findings.verdict(*generation, &CONDITIONS, false))
            }
        }
    }
}

#[cfg(test)]
mod tests;
