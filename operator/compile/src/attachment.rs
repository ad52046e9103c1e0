//! Attaches routes to Gateways: which hosts a route serves, and what its `parentRefs` say of it.

use std::collections::{BTreeMap, BTreeSet};

use crds::{AiRouteSpec, ConditionType, ParentRef, Reason};
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;
use proxy_core::table::List;

use crate::diagnostic::{Findings, Judgement, ParentVerdict, Verdict};
use crate::gateway::GATEWAY_GROUP;
use crate::listener::{Judged, JudgedGateway, Listeners};
use crate::verdicts::ObjectVerdict;

#[cfg(test)]
mod tests;

const FIELD: &str = "spec.parentRefs";

/// What a route is attached to.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Where the route serves; empty means every host.
    pub(crate) hostnames: Vec<HostPattern>,
    /// It serves nowhere, and would hold every host.
    pub(crate) is_hostless: bool,
    /// Not every Gateway takes it.
    pub(crate) is_partial: bool,
    /// The hosts of listeners that name its namespace; `None` means every host.
    pub(crate) granted: Vec<Option<HostPattern>>,
    parents: Vec<Parent>,
}

/// One of the Gateways of a route.
#[derive(Debug)]
struct Parent {
    reference: ParentRef,
    gateway: ObjectName,
    /// The listeners to which the route is attached.
    listeners: Vec<String>,
    refusal: Option<(Reason, String)>,
}

/// Hosts that a route has by one or more listeners.
#[derive(Default)]
struct Hosts {
    every: bool,
    patterns: BTreeSet<HostPattern>,
}

// === impl Hosts ===

impl Hosts {
    /// Adds those of a route that are a listener's, too. False if there are none.
    fn add(&mut self, listener: Option<&HostPattern>, route: &[HostPattern]) -> bool {
        if route.is_empty() {
            match listener {
                Some(host) => self.patterns.extend([host.clone()]),
                None => self.every = true,
            }
            return true;
        }
        let common = route.iter().filter_map(|host| match listener {
            Some(listener) => common(listener, host),
            None => Some(host.clone()),
        });
        let common: Vec<HostPattern> = common.collect();
        let has_common = !common.is_empty();
        self.patterns.extend(common);
        has_common
    }

    fn is_empty(&self) -> bool {
        !self.every && self.patterns.is_empty()
    }

    /// Empty means every host.
    fn into_patterns(self) -> Vec<HostPattern> {
        if self.every {
            Vec::new()
        } else {
            self.patterns.into_iter().collect()
        }
    }
}

/// The hosts that both patterns have, by the rules of Gateway API.
fn common(one: &HostPattern, other: &HostPattern) -> Option<HostPattern> {
    match (one, other) {
        (HostPattern::Exact(host), pattern) | (pattern, HostPattern::Exact(host)) => pattern
            .matches(host)
            .then(|| HostPattern::Exact(host.clone())),
        (HostPattern::Wildcard(a), HostPattern::Wildcard(b)) => {
            let (longer, shorter) = if a.len() < b.len() { (b, a) } else { (a, b) };
            longer
                .ends_with(&**shorter)
                .then(|| HostPattern::Wildcard(longer.clone()))
        }
    }
}

// === impl Attachment ===

impl Attachment {
    /// Of a route without `parentRefs`.
    fn none(hostnames: Vec<HostPattern>) -> Self {
        Self {
            hostnames,
            is_hostless: false,
            is_partial: false,
            granted: Vec::new(),
            parents: Vec::new(),
        }
    }

    /// What the verdict on the route says of its Gateways. A route that is not accepted is not attached.
    pub(crate) fn parents(&self, verdict: &Verdict) -> Vec<ParentVerdict> {
        let condition = ConditionType::Accepted;
        let accepted = verdict.condition(condition);
        let resolved = verdict.condition(ConditionType::ResolvedRefs);
        let of_route = accepted.filter(|accepted| !accepted.holds);
        let parents = self.parents.iter().map(|parent| {
            let refusal = parent.refusal.clone();
            let own = refusal.map(|(reason, message)| Judgement {
                condition,
                holds: false,
                reason,
                message,
            });
            let is_attached = own.is_none() && of_route.is_none();
            let accepted = own.or_else(|| of_route.cloned()).unwrap_or(Judgement {
                condition,
                holds: true,
                reason: Reason::Accepted,
                message: String::new(),
            });
            ParentVerdict {
                parent: parent.reference.clone(),
                gateway: parent.gateway.clone(),
                listeners: if is_attached {
                    parent.listeners.clone()
                } else {
                    Vec::new()
                },
                conditions: [Some(accepted), resolved.cloned()]
                    .into_iter()
                    .flatten()
                    .collect(),
            }
        });
        parents.collect()
    }
}

/// Attaches a route of `namespace` with these hosts. Without `listeners` no Gateway is followed.
pub(crate) fn attach(
    namespace: &str,
    spec: &AiRouteSpec,
    hostnames: Vec<HostPattern>,
    listeners: Option<&Listeners<'_>>,
    findings: &mut Findings,
) -> Attachment {
    if spec.parent_refs.is_empty() {
        return Attachment::none(hostnames);
    }
    let Some(listeners) = listeners else {
        let message = "no Gateways are followed here: Gateway API is not installed, gatewayApi.enabled of \
                       the chart is off, or this is a folder; leave parentRefs out, and the route belongs to the installation's \
                       gateway";
        findings.unsupported(FIELD, message);
        return Attachment::none(hostnames);
    };
    let mut attaching = Attaching {
        namespace,
        own: &hostnames,
        listeners,
        hosts: Hosts::default(),
        held: Hosts::default(),
        granted: Vec::new(),
    };
    let mut parents = Vec::with_capacity(spec.parent_refs.len());
    let mut problems = Vec::new();
    for (i, reference) in spec.parent_refs.iter().enumerate() {
        let field = format!("{FIELD}[{i}]");
        let (parent, problem) = attaching.parent(reference);
        problems.extend(problem.map(|(reason, message)| (field, reason, message)));
        parents.extend(parent);
    }
    let is_attached = !attaching.hosts.is_empty();
    // Without its own hosts, which cannot be read, it would take those of the listeners.
    let is_unreadable = hostnames.is_empty() && !spec.hostnames.is_empty();
    let is_partial = is_attached && !problems.is_empty();
    for (field, reason, message) in problems {
        if is_attached {
            findings.warning(
                ConditionType::Accepted,
                Reason::PartiallyInvalid,
                field,
                message,
            );
        } else {
            findings.error(ConditionType::Accepted, reason, field, message);
        }
    }
    let Attaching {
        hosts,
        held,
        granted,
        ..
    } = attaching;
    if is_attached {
        note_unserved(spec, &hostnames, &hosts, findings);
        return Attachment {
            hostnames: hosts.into_patterns(),
            is_hostless: is_unreadable,
            is_partial,
            granted,
            parents,
        };
    }
    // It answers an error where it could serve, so that no broader route of the namespace takes its callers.
    let is_hostless = is_unreadable || (hostnames.is_empty() && held.is_empty());
    Attachment {
        hostnames: if hostnames.is_empty() {
            held.into_patterns()
        } else {
            hostnames
        },
        is_hostless,
        is_partial,
        granted,
        parents,
    }
}

/// Hosts that no listener has serve nothing.
fn note_unserved(
    spec: &AiRouteSpec,
    hostnames: &[HostPattern],
    hosts: &Hosts,
    findings: &mut Findings,
) {
    let is_served = |own: &HostPattern| {
        hosts.every
            || hosts
                .patterns
                .iter()
                .any(|host| common(host, own).is_some())
    };
    for own in hostnames.iter().filter(|own| !is_served(own)) {
        let written = own.to_string();
        let place = spec.hostnames.iter();
        let place = place
            .into_iter()
            .position(|one| one.eq_ignore_ascii_case(&written));
        let field = format!("spec.hostnames[{}]", place.unwrap_or(0));
        findings.note(
            field,
            "no listener has this host, so the route does not serve it",
        );
    }
}

/// A route on its way to its Gateways.
struct Attaching<'a, 'b> {
    namespace: &'a str,
    own: &'a [HostPattern],
    listeners: &'a Listeners<'b>,
    hosts: Hosts,
    /// Hosts of listeners that do not let the route in.
    held: Hosts,
    granted: Vec<Option<HostPattern>>,
}

type Problem = (Reason, String);

// === impl Attaching ===

impl Attaching<'_, '_> {
    /// What a reference leads to; no parent if it is another controller's.
    fn parent(&mut self, reference: &ParentRef) -> (Option<Parent>, Option<Problem>) {
        let group_fits = reference.group.is_empty() || reference.group == GATEWAY_GROUP;
        let kind_fits = reference.kind.is_empty() || reference.kind == "Gateway";
        if !group_fits || !kind_fits {
            let message =
                format!("a parent is a Gateway of {GATEWAY_GROUP}; leave out kind and group");
            return (None, Some((Reason::UnsupportedValue, message)));
        }
        let namespace = if reference.namespace.is_empty() {
            self.namespace
        } else {
            &reference.namespace
        };
        let name = ObjectName::new(namespace, reference.name.as_str());
        let all = self.listeners.gateways;
        if all.gateways.contains_key(&name) && all.ours(&name).is_none() {
            let message = format!(
                "Gateway {name} is not of the class {}, or there is no such GatewayClass of this controller; \
                 name another",
                all.class_name
            );
            return (None, Some((Reason::NoMatchingParent, message)));
        }
        let mut parent = Parent {
            reference: reference.clone(),
            gateway: name,
            listeners: Vec::new(),
            refusal: None,
        };
        let problem = match self.listeners.judged.get(&parent.gateway) {
            None => {
                let message = format!(
                    "Gateway {} does not exist; create it or correct name and namespace",
                    parent.gateway
                );
                Some((Reason::NoMatchingParent, message))
            }
            Some(gateway) => match self.sections(gateway, reference) {
                Ok(listeners) => {
                    parent.listeners = listeners;
                    None
                }
                Err(problem) => Some(problem),
            },
        };
        parent.refusal.clone_from(&problem);
        (Some(parent), problem)
    }

    /// The listeners of a Gateway that take the route.
    fn sections(
        &mut self,
        gateway: &JudgedGateway<'_>,
        reference: &ParentRef,
    ) -> Result<Vec<String>, Problem> {
        let name = &gateway.declared.name;
        let section = reference.section_name.as_str();
        let is_meant = |one: &&Judged<'_>| section.is_empty() || one.declared.name == section;
        let meant: Vec<&Judged<'_>> = gateway.listeners.iter().filter(is_meant).collect();
        if meant.is_empty() {
            let message =
                format!("Gateway {name} has no listener {section:?}; correct sectionName");
            return Err((Reason::NoMatchingParent, message));
        }
        for listener in &meant {
            self.held.add(listener.hostname.as_ref(), self.own);
        }
        let ready: Vec<&Judged<'_>> = meant.into_iter().filter(|one| one.is_ready).collect();
        if ready.is_empty() {
            let message = format!("Gateway {name} is not served there; see its conditions");
            return Err((Reason::NoReadyListeners, message));
        }
        let allows = |one: &&Judged<'_>| {
            let allowed = &one.declared.allowed_routes;
            one.takes_routes && self.listeners.allows(name, allowed, self.namespace)
        };
        let allowing: Vec<&Judged<'_>> = ready.into_iter().filter(allows).collect();
        if allowing.is_empty() {
            let message = format!(
                "Gateway {name} allows no AIRoutes of namespace {} there (allowedRoutes); ask its owner, or name \
                 another",
                self.namespace
            );
            return Err((Reason::NotAllowedByListeners, message));
        }
        let mut attached = Vec::new();
        for listener in allowing {
            let hostname = listener.hostname.as_ref();
            if !self.hosts.add(hostname, self.own) {
                continue;
            }
            attached.push(listener.declared.name.clone());
            // `All` hands a host to no namespace in particular.
            if listener.declared.allowed_routes.namespaces.from != "All" {
                self.granted.push(hostname.cloned());
            }
        }
        if attached.is_empty() {
            let message = format!(
                "none of spec.hostnames is a host of Gateway {name} there; correct one of the two"
            );
            return Err((Reason::NoMatchingListenerHostname, message));
        }
        Ok(attached)
    }
}

/// The routes of every listener.
pub(crate) fn attached(
    verdicts: &List<ObjectVerdict>,
) -> BTreeMap<(ObjectName, String), BTreeSet<ObjectName>> {
    let mut all: BTreeMap<_, BTreeSet<ObjectName>> = BTreeMap::new();
    for one in verdicts {
        for parent in &one.verdict.parents {
            for listener in &parent.listeners {
                let key = (parent.gateway.clone(), listener.clone());
                all.entry(key).or_default().insert(one.object.name.clone());
            }
        }
    }
    all
}
