//! Issuers that several routes list. On each host the tokens of an issuer for an audience belong to one
//! namespace: the installation's own, else the first by name, since age must not decide. Within a namespace
//! an issuer has one place of its keys, and its tokens for an audience one mapping: those of the older route.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crds::{ConditionType, Reason};
use proxy_core::auth::{Mapping, Source};
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;

use super::draft::Draft;
use super::issuer::{DraftIssuer, FIELD};

/// An issuer with an audience.
type Pair = (Arc<str>, Arc<str>);

/// Hosts that namespaces have claimed.
#[derive(Default)]
struct Claimed {
    every: bool,
    exact: HashSet<Arc<str>>,
    /// Suffixes, beginning with a dot.
    wildcards: HashSet<Arc<str>>,
    /// Suffixes under which a host or wildcard is claimed.
    above: HashSet<String>,
}

/// What a route cannot have.
struct Loss {
    /// Its place among the drafts.
    loser: usize,
    /// The place of the issuer among those of the draft.
    issuer: usize,
    /// Audiences of it; none = all.
    audiences: Vec<Arc<str>>,
    message: String,
}

/// Takes from each route what belongs to another one, and reports it.
pub(super) fn find(drafts: &mut [Draft<'_>], own_namespace: &str) {
    let losses = among_namespaces(drafts, own_namespace);
    take(drafts, losses);
    let losses = within_namespaces(drafts);
    take(drafts, losses);
}

fn among_namespaces(drafts: &[Draft<'_>], own_namespace: &str) -> Vec<Loss> {
    let mut order: Vec<(bool, &str, usize)> = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        if !draft.issuers.is_empty() && !draft.is_passed() {
            let namespace = draft.name.namespace();
            order.push((namespace != own_namespace, namespace, index));
        }
    }
    order.sort_unstable();
    let mut claims: HashMap<Pair, Claimed> = HashMap::new();
    let mut losses = Vec::new();
    for namespace in order.chunk_by(|(_, a, _), (_, b, _)| a == b) {
        let mut won: Vec<(Pair, &[HostPattern])> = Vec::new();
        let of_namespace = namespace.iter().map(|(_, _, index)| *index);
        for loser in of_namespace {
            let Some(draft) = drafts.get(loser) else {
                continue;
            };
            for (issuer, one) in draft.issuers.iter().enumerate() {
                let trust = &one.issuer.trust;
                let mut audiences = Vec::new();
                for audience in &trust.audiences {
                    let pair = (Arc::clone(&trust.source.issuer), Arc::clone(audience));
                    let claimed = claims.get(&pair);
                    if claimed.is_some_and(|claimed| claimed.overlap(&draft.hostnames)) {
                        audiences.push(Arc::clone(audience));
                    } else {
                        won.push((pair, &draft.hostnames));
                    }
                }
                if !audiences.is_empty() {
                    let message = format!(
                        "tokens of an issuer for an audience belong to one namespace on each host, and another \
                         one comes first for {} on a host of this route; list an audience of your own, or ask \
                         the platform",
                        audiences.join(", ")
                    );
                    losses.push(Loss {
                        loser,
                        issuer,
                        audiences,
                        message,
                    });
                }
            }
        }
        for (pair, hosts) in won {
            claims.entry(pair).or_default().add(hosts);
        }
    }
    losses
}

fn within_namespaces(drafts: &[Draft<'_>]) -> Vec<Loss> {
    let mut order: Vec<(i64, &ObjectName, usize)> = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        if !draft.issuers.is_empty() {
            order.push((draft.created_s, draft.name, index));
        }
    }
    order.sort_unstable();
    let mut places: HashMap<(&str, &str), (&Source, &ObjectName)> = HashMap::new();
    let mut mappings: HashMap<(&str, &str, &str), (&Mapping, &ObjectName)> = HashMap::new();
    let mut losses = Vec::new();
    for (_, name, loser) in order {
        let Some(draft) = drafts.get(loser) else {
            continue;
        };
        let namespace = name.namespace();
        for (issuer, one) in draft.issuers.iter().enumerate() {
            let trust = &one.issuer.trust;
            let key = (namespace, &*trust.source.issuer);
            let (source, winner) = *places.entry(key).or_insert((&trust.source, name));
            if *source != trust.source {
                losses.push(Loss {
                    loser,
                    issuer,
                    audiences: Vec::new(),
                    message: format!(
                        "AIRoute {} comes first and has another jwksURI for this issuer; write the same one",
                        winner.name()
                    ),
                });
                continue;
            }
            if draft.is_passed() {
                continue;
            }
            let mut others = trust.audiences.iter().filter_map(|audience| {
                let key = (namespace, &*trust.source.issuer, &**audience);
                let (mapping, winner) = *mappings.entry(key).or_insert((&trust.mapping, name));
                (*mapping != trust.mapping).then_some((audience, winner))
            });
            if let Some((audience, winner)) = others.next() {
                let audiences = others.map(|(audience, _)| audience);
                let audiences = [audience].into_iter().chain(audiences).cloned().collect();
                losses.push(Loss {
                    loser,
                    issuer,
                    audiences,
                    message: format!(
                        "AIRoute {} comes first and makes other consumers of this issuer's tokens for {audience}; \
                         write the same consumerClaim and attributeClaims, or another audience",
                        winner.name()
                    ),
                });
            }
        }
    }
    losses
}

/// What is lost is not the route's, and makes it one in error.
fn take(drafts: &mut [Draft<'_>], losses: Vec<Loss>) {
    for loss in losses {
        let Some(draft) = drafts.get_mut(loss.loser) else {
            continue;
        };
        let Some(one) = draft.issuers.get_mut(loss.issuer) else {
            continue;
        };
        let is_kept =
            |audience: &Arc<str>| !loss.audiences.is_empty() && !loss.audiences.contains(audience);
        one.issuer.trust.audiences.retain(is_kept);
        draft.unreadable = true;
        let field = format!("{FIELD}[{}]", one.declared);
        let (condition, reason) = (ConditionType::Accepted, Reason::Conflicted);
        draft.findings.error(condition, reason, field, loss.message);
    }
    for draft in drafts {
        let is_left = |one: &DraftIssuer| !one.issuer.trust.audiences.is_empty();
        draft.issuers.retain(is_left);
    }
}

impl Claimed {
    fn add(&mut self, hosts: &[HostPattern]) {
        self.every |= hosts.is_empty();
        for host in hosts {
            let (text, list) = match host {
                HostPattern::Exact(name) => (name, &mut self.exact),
                HostPattern::Wildcard(suffix) => (suffix, &mut self.wildcards),
            };
            list.insert(Arc::clone(text));
            self.above.extend(suffixes(text).map(str::to_owned));
        }
    }

    /// Whether a host that is claimed is one of `hosts`; none = every host.
    fn overlap(&self, hosts: &[HostPattern]) -> bool {
        let covered = |text: &str| suffixes(text).any(|one| self.wildcards.contains(one));
        let has = |host: &HostPattern| match host {
            HostPattern::Exact(name) => self.exact.contains(name) || covered(name),
            HostPattern::Wildcard(suffix) => {
                self.wildcards.contains(suffix) || covered(suffix) || self.above.contains(&**suffix)
            }
        };
        self.every || hosts.is_empty() || hosts.iter().any(has)
    }
}

/// The shorter suffixes that begin with a dot.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    let dots = host.match_indices('.').filter(|(place, _)| *place > 0);
    dots.filter_map(|(place, _)| host.get(place..))
}

#[cfg(test)]
mod tests;
