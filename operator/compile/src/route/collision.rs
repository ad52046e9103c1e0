//! Two routes of a namespace with the same host and the same match: the older one wins, then the first
//! by name.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::HeaderName;
use proxy_core::names::{ConsumerName, ModelPattern, ObjectName, Operation};
use proxy_core::route::HostPattern;
use proxy_core::table::Rule;

use super::draft::Draft;

/// What the routes of all namespaces claim, kept from one compile to the next.
#[derive(Default)]
pub(super) struct Claims(HashMap<Claim, Claimants>);

/// By age, then by name: the first owns it.
type Claimants = BTreeSet<(i64, ObjectName)>;

/// A host and a match, which one route of a namespace owns: namespaces do not see each other's routes.
#[derive(Clone)]
struct Claim {
    /// One of the routes that claim it.
    route: ObjectName,
    /// `None` means any host.
    host: Option<HostPattern>,
    /// A rule, and its match in this place.
    rule: Arc<Rule>,
    place: usize,
}

/// What makes claims the same. The lists are sorted, so equal sets are equal.
#[derive(PartialEq, Eq, Hash)]
struct Meaning<'a> {
    namespace: &'a str,
    host: Option<&'a HostPattern>,
    models: &'a [ModelPattern],
    operations: &'a [Operation],
    headers: &'a [(HeaderName, Arc<str>)],
    consumers: &'a [ConsumerName],
    attributes: &'a [(Arc<str>, Arc<str>)],
}

// === impl Claims ===

impl Claims {
    /// Takes the claims of a route that was compiled again, or is gone. Returns the routes that may have won or
    /// lost one by it.
    pub(super) fn change(
        &mut self,
        before: Option<&Draft>,
        now: Option<&Draft>,
    ) -> BTreeSet<ObjectName> {
        let mut affected = BTreeSet::new();
        let mut meet = |claimants: &Claimants| {
            affected.extend(claimants.iter().map(|(_, name)| name.clone()));
        };
        for draft in before.into_iter().filter(|draft| is_claimant(draft)) {
            let own = (draft.created_s, draft.name.clone());
            for claim in alternatives(draft).flat_map(|(_, claims)| claims) {
                let Some(claimants) = self.0.get_mut(&claim) else {
                    continue;
                };
                let is_owned = claimants.first() == Some(&own);
                claimants.remove(&own);
                if is_owned {
                    meet(claimants);
                }
                if claimants.is_empty() {
                    self.0.remove(&claim);
                }
            }
        }
        for draft in now.into_iter().filter(|draft| is_claimant(draft)) {
            let own = (draft.created_s, draft.name.clone());
            for claim in alternatives(draft).flat_map(|(_, claims)| claims) {
                let claimants = self.0.entry(claim).or_default();
                claimants.insert(own.clone());
                if claimants.first() == Some(&own) {
                    meet(claimants);
                }
            }
        }
        affected
    }

    /// Every match of a route that an earlier route owns, by field. A route that loses one, or is in error
    /// otherwise, keeps its other matches and wins those over later routes.
    pub(super) fn conflicts(&self, draft: &Draft) -> Vec<(String, ObjectName)> {
        if !is_claimant(draft) {
            return Vec::new();
        }
        let lost = alternatives(draft).filter_map(|(field, mut claims)| {
            let winner = claims.find_map(|claim| {
                let (_, owner) = self.0.get(&claim)?.first()?;
                (*owner != draft.name).then(|| owner.clone())
            });
            Some((field.text(), winner?))
        });
        lost.collect()
    }
}

/// A match that was widened since it can't be read is no claim, nor is one without a host.
const fn is_claimant(draft: &Draft) -> bool {
    !draft.remains && !draft.is_hostless()
}

/// The place of a match; without one the rule has none.
struct Field {
    rule: usize,
    alternative: Option<usize>,
}

impl Field {
    fn text(&self) -> String {
        match self.alternative {
            Some(alternative) => format!("spec.rules[{}].matches[{alternative}]", self.rule),
            None => format!("spec.rules[{}]", self.rule),
        }
    }
}

/// Each match, with its claim of every host.
fn alternatives(
    draft: &Draft,
) -> impl Iterator<Item = (Field, impl Iterator<Item = Claim> + '_)> + '_ {
    draft.rules.iter().flat_map(move |rule| {
        let whole = rule.rule.matches.is_empty().then_some(None);
        let declared = rule.matches.iter().map(|&place| Some(place));
        let all = whole.into_iter().chain(declared).enumerate();
        all.map(move |(place, alternative)| {
            let field = Field {
                rule: rule.declared,
                alternative,
            };
            let claims = hosts(draft).map(move |host| Claim {
                route: draft.name.clone(),
                host: host.cloned(),
                rule: Arc::clone(&rule.rule),
                place,
            });
            (field, claims)
        })
    })
}

/// The hosts of a route, or `None` for any.
fn hosts(draft: &Draft) -> impl Iterator<Item = Option<&HostPattern>> {
    let any = draft.hostnames.is_empty().then_some(None);
    any.into_iter().chain(draft.hostnames.iter().map(Some))
}

// === impl Claim ===

impl Claim {
    fn meaning(&self) -> Meaning<'_> {
        let matched = self.rule.matches.get(self.place);
        Meaning {
            namespace: self.route.namespace(),
            host: self.host.as_ref(),
            models: matched.map_or(&[], |one| &one.models),
            operations: matched.map_or(&[], |one| &one.operations),
            headers: matched.map_or(&[], |one| &one.headers),
            consumers: matched.map_or(&[], |one| &one.consumers.names),
            attributes: matched.map_or(&[], |one| &one.consumers.attributes),
        }
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }
}

impl Eq for Claim {}

impl Hash for Claim {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.meaning().hash(state);
    }
}
