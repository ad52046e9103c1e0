//! Issuers that several routes list. On each host the tokens of an issuer for an audience belong to one
//! namespace: the installation's own, else the first by name, since age must not decide. Within a namespace
//! an issuer has one place of its keys, and its tokens for an audience one mapping: those of the older route.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use proxy_core::auth::{Mapping, Source};
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;

use super::draft::Draft;
use super::issuer::{DraftIssuer, FIELD, Trusted};

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
    /// Its place among the claimants.
    loser: usize,
    /// The place of the issuer among those of the claimant.
    issuer: usize,
    /// Audiences of it; none = all.
    audiences: Vec<Arc<str>>,
    message: String,
}

/// A route, and what it has of its issuers so far.
struct Claimant<'a> {
    draft: &'a Draft,
    issuers: Vec<DraftIssuer>,
    /// Fields and messages.
    losses: Vec<(String, String)>,
}

/// What each of these routes, sorted by name, has of its issuers.
pub(super) fn judge<'a>(
    drafts: impl Iterator<Item = &'a Draft>,
    own_namespace: &str,
) -> BTreeMap<ObjectName, Trusted> {
    let claimants = drafts.map(|draft| Claimant {
        draft,
        issuers: draft.issuers.clone(),
        losses: Vec::new(),
    });
    let mut claimants: Vec<Claimant<'_>> = claimants.collect();
    let losses = among_namespaces(&claimants, own_namespace);
    take(&mut claimants, losses);
    let losses = within_namespaces(&claimants);
    take(&mut claimants, losses);
    let each = claimants.into_iter().map(|claimant| {
        let trusted = Trusted {
            issuers: claimant.issuers.into_iter().map(|one| one.issuer).collect(),
            losses: claimant.losses,
        };
        (claimant.draft.name.clone(), trusted)
    });
    each.collect()
}

fn among_namespaces(claimants: &[Claimant<'_>], own_namespace: &str) -> Vec<Loss> {
    let mut order: Vec<(bool, &str, usize)> = Vec::new();
    for (index, one) in claimants.iter().enumerate() {
        if !one.issuers.is_empty() && !one.draft.is_passed {
            let namespace = one.draft.name.namespace();
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
            let Some(claimant) = claimants.get(loser) else {
                continue;
            };
            let draft = claimant.draft;
            for (issuer, one) in claimant.issuers.iter().enumerate() {
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

fn within_namespaces(claimants: &[Claimant<'_>]) -> Vec<Loss> {
    let mut order: Vec<(i64, &ObjectName, usize)> = Vec::new();
    for (index, one) in claimants.iter().enumerate() {
        if !one.issuers.is_empty() {
            order.push((one.draft.created_s, &one.draft.name, index));
        }
    }
    order.sort_unstable();
    let mut places: HashMap<(&str, &str), (&Source, &ObjectName)> = HashMap::new();
    let mut mappings: HashMap<(&str, &str, &str), (&Mapping, &ObjectName)> = HashMap::new();
    let mut losses = Vec::new();
    for (_, name, loser) in order {
        let Some(claimant) = claimants.get(loser) else {
            continue;
        };
        let namespace = name.namespace();
        for (issuer, one) in claimant.issuers.iter().enumerate() {
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
            if claimant.draft.is_passed {
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
fn take(claimants: &mut [Claimant<'_>], losses: Vec<Loss>) {
    for loss in losses {
        let Some(claimant) = claimants.get_mut(loss.loser) else {
            continue;
        };
        let Some(one) = claimant.issuers.get_mut(loss.issuer) else {
            continue;
        };
        let is_kept =
            |audience: &Arc<str>| !loss.audiences.is_empty() && !loss.audiences.contains(audience);
        one.issuer.trust.audiences.retain(is_kept);
        let field = format!("{FIELD}[{}]", one.declared);
        claimant.losses.push((field, loss.message));
    }
    for claimant in claimants {
        let is_left = |one: &DraftIssuer| !one.issuer.trust.audiences.is_empty();
        claimant.issuers.retain(is_left);
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
