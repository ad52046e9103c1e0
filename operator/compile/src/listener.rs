//! What an installation serves of Gateways: the judgement on each listener, and which routes it lets in.

use std::collections::{BTreeMap, BTreeSet};

use crds::{ConditionType, Reason};
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;

use crate::bounds::is_hostname;
use crate::diagnostic::Judgement;
use crate::gateway::{
    AllowedRoutes, CertificateRef, GATEWAY_GROUP, Gateway, GatewayClass, Gateways, Listener,
};
use crate::grant::Grant;
use crate::object::Kind;

#[cfg(test)]
mod tests;

/// The first part of the versions of Gateway API whose Gateways are known here.
const KNOWN_VERSIONS: &str = "v1.";

/// The judgement on the class and the Gateways of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayVerdicts {
    /// Of the class; `None` if it is not there, or names another controller.
    pub class: Option<ClassVerdict>,
    /// Of every Gateway of the class.
    pub gateways: BTreeMap<ObjectName, GatewayVerdict>,
}

/// The judgement on a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassVerdict {
    /// The generation that was judged.
    pub generation: i64,
    /// `Accepted` and `SupportedVersion`.
    pub conditions: Vec<Judgement>,
}

/// The judgement on a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayVerdict {
    /// The generation that was judged.
    pub generation: i64,
    /// `Accepted`. Whether it is programmed, only the proxies know.
    pub accepted: Judgement,
    /// Its listeners, in order.
    pub listeners: Vec<ListenerVerdict>,
    /// The routes that are attached.
    pub routes: BTreeSet<ObjectName>,
}

/// The judgement on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerVerdict {
    /// Its name.
    pub name: String,
    /// Whether AIRoutes may attach.
    pub takes_routes: bool,
    /// How many are attached.
    pub attached: usize,
    /// `Accepted`, `Conflicted`, `Programmed` and `ResolvedRefs`.
    pub conditions: Vec<Judgement>,
}

/// A listener, judged.
pub(crate) struct Judged<'a> {
    pub(crate) declared: &'a Listener,
    /// `None` means every host.
    pub(crate) hostname: Option<HostPattern>,
    pub(crate) takes_routes: bool,
    pub(crate) is_ready: bool,
    conditions: Vec<Judgement>,
}

/// A Gateway of ours, judged.
pub(crate) struct JudgedGateway<'a> {
    pub(crate) declared: &'a Gateway,
    pub(crate) accepted: Judgement,
    pub(crate) listeners: Vec<Judged<'a>>,
}

/// Every Gateway of ours, judged.
pub(crate) struct Listeners<'a> {
    pub(crate) gateways: &'a Gateways,
    pub(crate) judged: BTreeMap<&'a ObjectName, JudgedGateway<'a>>,
}

// === impl Judged ===

impl Judged<'_> {
    /// Its Gateway is not accepted.
    fn refuse(&mut self) {
        self.is_ready = false;
        let condition = ConditionType::Programmed;
        let mut conditions = self.conditions.iter_mut();
        if let Some(programmed) = conditions.find(|one| one.condition == condition) {
            let message = "the Gateway is not accepted; see its conditions";
            *programmed = refused(condition, Reason::Invalid, message);
        }
    }
}

// === impl Listeners ===

impl<'a> Listeners<'a> {
    pub(crate) fn new(
        gateways: &'a Gateways,
        own_namespace: &str,
        grants: &BTreeMap<ObjectName, Grant>,
    ) -> Self {
        let facts = Facts {
            gateways,
            own_namespace,
            grants,
        };
        let all = gateways.gateways.iter();
        let ours = all.filter(|(_, gateway)| gateways.is_ours(gateway));
        Self {
            gateways,
            judged: ours
                .map(|(name, gateway)| (name, facts.gateway(gateway)))
                .collect(),
        }
    }

    /// Whether routes of `namespace` may attach to a listener of the Gateway `owner`.
    pub(crate) fn allows(
        &self,
        owner: &ObjectName,
        allowed: &AllowedRoutes,
        namespace: &str,
    ) -> bool {
        let namespaces = &allowed.namespaces;
        match namespaces.from.as_str() {
            "" | "Same" => owner.namespace() == namespace,
            "All" => true,
            "Selector" => {
                let labels = self.gateways.namespaces.get(namespace);
                labels.is_some_and(|labels| namespaces.selector.matches(labels))
            }
            _ => false,
        }
    }

    /// The verdicts, with the routes that are attached to each listener.
    pub(crate) fn verdicts(
        self,
        mut attached: BTreeMap<(ObjectName, String), BTreeSet<ObjectName>>,
    ) -> GatewayVerdicts {
        let class = self.gateways.class.as_ref();
        let class = class.filter(|class| class.controller_name == crate::gateway::CONTROLLER_NAME);
        let gateways = self.judged.into_iter().map(|(name, gateway)| {
            let mut all = BTreeSet::new();
            let listeners = gateway.listeners.into_iter().map(|listener| {
                let key = (name.clone(), listener.declared.name.clone());
                let routes = attached.remove(&key).unwrap_or_default();
                let verdict = ListenerVerdict {
                    name: listener.declared.name.clone(),
                    takes_routes: listener.takes_routes,
                    attached: routes.len(),
                    conditions: listener.conditions,
                };
                all.extend(routes);
                verdict
            });
            let listeners = listeners.collect();
            let verdict = GatewayVerdict {
                generation: gateway.declared.generation,
                accepted: gateway.accepted,
                listeners,
                routes: all,
            };
            (name.clone(), verdict)
        });
        GatewayVerdicts {
            class: class.map(|class| judge_class(class, self.gateways)),
            gateways: gateways.collect(),
        }
    }
}

fn judge_class(class: &GatewayClass, gateways: &Gateways) -> ClassVerdict {
    let accepted = if class.has_parameters {
        let message =
            "there are no parameters here: remove parametersRef, and set the values of the chart";
        refused(ConditionType::Accepted, Reason::InvalidParameters, message)
    } else {
        holding(ConditionType::Accepted, Reason::Accepted)
    };
    let condition = ConditionType::SupportedVersion;
    let version = gateways.bundle_version.as_deref().unwrap_or_default();
    let supported = if version.starts_with(KNOWN_VERSIONS) {
        holding(condition, Reason::SupportedVersion)
    } else {
        let message = format!(
            "the installed Gateway API is {version:?}, and only {KNOWN_VERSIONS}x is known here"
        );
        refused(condition, Reason::UnsupportedVersion, message)
    };
    ClassVerdict {
        generation: class.generation,
        conditions: vec![accepted, supported],
    }
}

/// What listeners are judged by.
struct Facts<'a, 'b> {
    gateways: &'a Gateways,
    own_namespace: &'b str,
    grants: &'b BTreeMap<ObjectName, Grant>,
}

// === impl Facts ===

impl<'a> Facts<'a, '_> {
    fn gateway(&self, gateway: &'a Gateway) -> JudgedGateway<'a> {
        let refusal = self.refusal(gateway);
        let mut listeners: Vec<Judged<'a>> = Vec::with_capacity(gateway.spec.listeners.len());
        for listener in &gateway.spec.listeners {
            let mut judged = self.listener(gateway, listener);
            if refusal.is_some() {
                judged.refuse();
            }
            listeners.push(judged);
        }
        let invalid = listeners.iter().filter(|one| !one.is_ready);
        let names: Vec<&str> = invalid.map(|one| one.declared.name.as_str()).collect();
        let condition = ConditionType::Accepted;
        let accepted = match refusal {
            Some((reason, message)) => refused(condition, reason, message),
            None if names.is_empty() => holding(condition, Reason::Accepted),
            None => Judgement {
                condition,
                holds: names.len() < listeners.len(),
                reason: Reason::ListenersNotValid,
                message: format!("not served: {}; see the listeners", names.join(", ")),
            },
        };
        JudgedGateway {
            declared: gateway,
            accepted,
            listeners,
        }
    }

    /// Why nothing of a Gateway is served.
    fn refusal(&self, gateway: &Gateway) -> Option<(Reason, String)> {
        let namespace = gateway.name.namespace();
        let spec = &gateway.spec;
        if namespace != self.own_namespace && !self.gateways.from.iter().any(|one| one == namespace)
        {
            let message = format!(
                "a Gateway hands out hosts, so it belongs into namespace {}, or into one that the platform \
                 names (gatewayApi.namespaces, --gateway-namespace={namespace})",
                self.own_namespace
            );
            Some((Reason::Invalid, message))
        } else if !spec.addresses.is_empty() {
            let message = "the address is that of the proxies' Service; remove spec.addresses, and set the \
                           values of the chart";
            Some((Reason::UnsupportedAddress, message.to_owned()))
        } else if spec.infrastructure.parameters_ref.is_some() {
            let message =
                "the proxies are those of the chart; remove spec.infrastructure.parametersRef";
            Some((Reason::InvalidParameters, message.to_owned()))
        } else {
            None
        }
    }

    fn listener(&self, gateway: &'a Gateway, listener: &'a Listener) -> Judged<'a> {
        let hostname = HostPattern::parse(&listener.hostname);
        let is_host = listener.hostname.is_empty()
            || (hostname.is_some() && is_hostname(&listener.hostname.to_ascii_lowercase()));
        let unserved = self.unserved(listener).or_else(|| {
            let message = format!("{:?} is no host name", listener.hostname);
            (!is_host).then_some((Reason::Invalid, message))
        });
        let accepted = match unserved {
            Some((reason, message)) => refused(ConditionType::Accepted, reason, message),
            None => holding(ConditionType::Accepted, Reason::Accepted),
        };
        let condition = ConditionType::Conflicted;
        let conflicted = if is_shadowed(gateway, listener) {
            Judgement {
                condition,
                holds: true,
                reason: Reason::HostnameConflict,
                message: "another listener has the same port and hostname; change one".to_owned(),
            }
        } else {
            refused(condition, Reason::NoConflicts, "")
        };
        let kinds = &listener.allowed_routes.kinds;
        let takes_routes = accepted.holds && (kinds.is_empty() || kinds.iter().any(is_ours));
        let certificates = self.certificates(gateway, listener);
        let has_certificates = certificates.is_none();
        let kinds = kinds.iter().find(|kind| !is_ours(kind)).map(|kind| {
            let message = format!(
                "routes of kind {} are not served, only AIRoutes of {}",
                kind.kind,
                crds::GROUP
            );
            (Reason::InvalidRouteKinds, message)
        });
        let condition = ConditionType::ResolvedRefs;
        let resolved = match certificates.or(kinds) {
            Some((reason, message)) => refused(condition, reason, message),
            None => holding(condition, Reason::ResolvedRefs),
        };
        let is_ready = accepted.holds && has_certificates && !conflicted.holds;
        let condition = ConditionType::Programmed;
        let programmed = if is_ready {
            holding(condition, Reason::Programmed)
        } else {
            let message = "it is not served; see the other conditions";
            refused(condition, Reason::Invalid, message)
        };
        Judged {
            declared: listener,
            hostname,
            takes_routes,
            is_ready,
            conditions: vec![accepted, conflicted, programmed, resolved],
        }
    }

    /// Why the proxies have no such listener.
    fn unserved(&self, listener: &Listener) -> Option<(Reason, String)> {
        let has_tls = !self.gateways.certificates.is_empty();
        let mode = listener.tls.as_ref().map(|tls| tls.mode.as_str());
        let message = match (listener.protocol.as_str(), has_tls) {
            ("HTTP", false) => None,
            ("HTTPS", true) if matches!(mode, None | Some("" | "Terminate")) => None,
            ("HTTPS", true) => Some("TLS ends at the proxies; write mode: Terminate".to_owned()),
            ("HTTP", true) => Some(
                "the proxies serve HTTPS only, since they have a certificate; write protocol: HTTPS"
                    .to_owned(),
            ),
            ("HTTPS", false) => Some(
                "the proxies have no certificate; set proxy.tls.secretName of the chart, or write protocol: HTTP"
                    .to_owned(),
            ),
            (other, _) => Some(format!("{other} is not served; write HTTP or HTTPS")),
        };
        if let Some(message) = message {
            return Some((Reason::UnsupportedProtocol, message));
        }
        let ports = self.gateways.ports.as_ref()?;
        (!ports.contains(&listener.port)).then(|| {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let message = format!(
                "the Service of the proxies has no port {}, only {}; change one of the two",
                listener.port,
                ports.join(", ")
            );
            (Reason::PortUnavailable, message)
        })
    }

    /// What is wrong with the certificates of a listener.
    fn certificates(&self, gateway: &Gateway, listener: &Listener) -> Option<(Reason, String)> {
        if listener.protocol != "HTTPS" {
            return None;
        }
        let refs = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
        refs.clone()
            .find_map(|one| self.certificate(gateway, one))
            .or_else(|| {
                let message =
                    "there is no certificateRef; name the Secret of the proxies' certificate";
                refs.clone()
                    .next()
                    .is_none()
                    .then(|| (Reason::InvalidCertificateRef, message.to_owned()))
            })
    }

    /// The grant comes first: a certificate that may not be named may be there or not.
    fn certificate(&self, gateway: &Gateway, one: &CertificateRef) -> Option<(Reason, String)> {
        let owner = gateway.name.namespace();
        let namespace = if one.namespace.is_empty() {
            owner
        } else {
            &one.namespace
        };
        if namespace != owner
            && !self
                .grants
                .values()
                .any(|grant| permits(grant, owner, namespace, &one.name))
        {
            let message = format!(
                "no ReferenceGrant in namespace {namespace} permits it; write one there from Gateway in {owner} to \
                 Secret"
            );
            return Some((Reason::RefNotPermitted, message));
        }
        let is_secret =
            one.group.is_empty() && (one.kind.is_empty() || one.kind == Kind::Secret.as_str());
        let is_known =
            namespace == self.own_namespace && self.gateways.certificates.contains(&one.name);
        (!is_secret || !is_known).then(|| {
            let message = format!(
                "the proxies have the certificates of these Secrets in namespace {}: {}; name one of them",
                self.own_namespace,
                self.gateways.certificates.join(", ")
            );
            (Reason::InvalidCertificateRef, message)
        })
    }
}

/// Whether a grant lets Gateways of `owner` refer to the Secret.
fn permits(grant: &Grant, owner: &str, namespace: &str, secret: &str) -> bool {
    let from = |from: &crate::grant::GrantFrom| {
        from.group == GATEWAY_GROUP && from.kind == "Gateway" && from.namespace == owner
    };
    let to = |to: &crate::grant::GrantTo| {
        to.group.is_empty()
            && to.kind == Kind::Secret.as_str()
            && to.name.as_deref().is_none_or(|name| name == secret)
    };
    grant.name.namespace() == namespace && grant.from.iter().any(from) && grant.to.iter().any(to)
}

fn is_ours(kind: &crate::gateway::RouteKind) -> bool {
    kind.group.as_deref() == Some(crds::GROUP) && kind.kind == Kind::AiRoute.as_str()
}

/// Whether two listeners of a Gateway take the same requests. The schema of Gateways refuses it, too.
fn is_shadowed(gateway: &Gateway, listener: &Listener) -> bool {
    let others = gateway.spec.listeners.iter();
    let same = others.filter(|other| {
        other.port == listener.port && other.hostname.eq_ignore_ascii_case(&listener.hostname)
    });
    same.count() > 1
}

fn holding(condition: ConditionType, reason: Reason) -> Judgement {
    Judgement {
        condition,
        holds: true,
        reason,
        message: String::new(),
    }
}

fn refused(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Judgement {
    Judgement {
        condition,
        holds: false,
        reason,
        message: message.into(),
    }
}
