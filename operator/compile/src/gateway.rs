//! Gateways of Gateway API as stored, and what an installation serves of them. Other kinds of the API are left to
//! the controllers that serve them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use proxy_core::names::ObjectName;
use serde::Deserialize;
use serde_json::Value;

use crate::namespace;

#[cfg(test)]
mod tests;

/// The group of Gateways.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// What the GatewayClass of an installation names as its controller.
pub const CONTROLLER_NAME: &str = "tundish.dev/gateway-controller";

/// Every Gateway of a cluster, and what an installation serves of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateways {
    /// The name of the installation's class; Gateways of others belong to other controllers.
    pub class_name: String,
    /// The class, if it is there.
    pub class: Option<GatewayClass>,
    /// Every Gateway of any class.
    pub gateways: BTreeMap<ObjectName, Gateway>,
    /// The labels of namespaces, as far as a listener selects by them.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Namespaces besides the installation's own whose Gateways are served: who writes there hands out hosts.
    pub from: Vec<String>,
    /// The Secrets in the installation's namespace with the certificates of the proxies. Without any the proxies
    /// serve plain HTTP, with one only HTTPS.
    pub certificates: Vec<String>,
    /// The ports of the proxies' Service; `None` while it is not known.
    pub ports: Option<Vec<i32>>,
    /// The version of Gateway API that is installed; `None` if it cannot be read.
    pub bundle_version: Option<String>,
}

/// A GatewayClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayClass {
    /// Its generation.
    pub generation: i64,
    /// Its controller.
    pub controller_name: String,
    /// Whether it names parameters.
    pub has_parameters: bool,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: ObjectName,
    /// Its generation.
    pub generation: i64,
    /// What it declares.
    pub spec: GatewaySpec,
}

/// What a Gateway declares, as far as it is served or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Its class.
    pub gateway_class_name: String,
    /// Its listeners.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// The addresses that it asks for.
    #[serde(default)]
    pub addresses: Vec<Value>,
    /// How its own proxies should be made.
    #[serde(default)]
    pub infrastructure: Infrastructure,
}

/// How a Gateway's own proxies should be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Infrastructure {
    /// An object with parameters.
    #[serde(default)]
    pub parameters_ref: Option<Value>,
}

/// A listener of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its host, or `*.` and a host; none means every one.
    #[serde(default)]
    pub hostname: String,
    /// Its port.
    pub port: i32,
    /// `HTTP`, `HTTPS` or another.
    pub protocol: String,
    /// How it serves TLS.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// The routes that may attach.
    #[serde(default)]
    pub allowed_routes: AllowedRoutes,
}

/// How a listener serves TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// `Terminate`, if empty, or `Passthrough`.
    #[serde(default)]
    pub mode: String,
    /// Its certificates.
    #[serde(default)]
    pub certificate_refs: Vec<CertificateRef>,
}

/// A reference to a Secret with a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRef {
    /// Its group; empty for Secrets.
    #[serde(default)]
    pub group: String,
    /// Its kind; empty for Secrets.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; empty for the Gateway's.
    #[serde(default)]
    pub namespace: String,
}

/// The routes that may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// Their namespaces.
    #[serde(default)]
    pub namespaces: RouteNamespaces,
    /// Their kinds; empty means those that fit the protocol.
    #[serde(default)]
    pub kinds: Vec<RouteKind>,
}

/// The namespaces of the routes that may attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteNamespaces {
    /// `Same`, if empty, `All`, `Selector` or `None`.
    #[serde(default)]
    pub from: String,
    /// The labels of namespaces, with `Selector`.
    #[serde(default)]
    pub selector: LabelSelector,
}

/// A kind of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteKind {
    /// The group; empty for that of Gateways.
    #[serde(default)]
    pub group: Option<String>,
    /// The kind.
    pub kind: String,
}

/// Labels that a namespace must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Exactly these.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// As these say.
    #[serde(default)]
    pub match_expressions: Vec<LabelExpression>,
}

/// What a label must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values of `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

// === impl Gateways ===

impl Gateways {
    /// Takes in a GatewayClass, a Gateway, a Namespace or the proxies' Service from JSON. False for anything else, and
    /// for what cannot be read.
    pub fn apply(&mut self, object: &Value) -> bool {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        let name = text("/metadata/name").unwrap_or_default();
        match (text("/apiVersion").unwrap_or_default(), text("/kind")) {
            ("gateway.networking.k8s.io/v1", Some("GatewayClass")) => {
                if name == self.class_name {
                    self.class = Some(GatewayClass::from_json(object));
                }
            }
            ("gateway.networking.k8s.io/v1", Some("Gateway")) => {
                let Some(gateway) = Gateway::from_json(object) else {
                    return false;
                };
                self.gateways.insert(gateway.name.clone(), gateway);
            }
            ("v1", Some("Namespace")) => {
                let labels = object.pointer("/metadata/labels");
                let labels = labels.and_then(|labels| BTreeMap::deserialize(labels).ok());
                self.namespaces
                    .insert(name.to_owned(), labels.unwrap_or_default());
            }
            ("v1", Some("Service")) => match Service::deserialize(object) {
                Ok(service) => self.ports = Some(ports(&service)),
                Err(_unreadable) => return false,
            },
            (_, _) => return false,
        }
        true
    }

    /// The Gateway of this name, if its class is ours.
    pub(crate) fn ours(&self, name: &ObjectName) -> Option<&Gateway> {
        let found = self.gateways.get(name);
        found.filter(|gateway| self.is_ours(gateway))
    }

    /// Whether the class of a Gateway is ours, as is its controller.
    #[must_use]
    pub fn is_ours(&self, gateway: &Gateway) -> bool {
        let class = self.class.as_ref();
        gateway.spec.gateway_class_name == self.class_name
            && class.is_some_and(|class| class.controller_name == CONTROLLER_NAME)
    }
}

/// The TCP ports of a Service.
#[must_use]
pub fn ports(service: &Service) -> Vec<i32> {
    let ports = service.spec.iter().flat_map(|spec| &spec.ports).flatten();
    ports.map(|port| port.port).collect()
}

// === impl GatewayClass ===

impl GatewayClass {
    /// Reads a class.
    #[must_use]
    pub fn from_json(object: &Value) -> Self {
        let controller = object.pointer("/spec/controllerName");
        Self {
            generation: generation(object),
            controller_name: controller
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            has_parameters: object.pointer("/spec/parametersRef").is_some(),
        }
    }
}

// === impl Gateway ===

impl Gateway {
    /// Reads a Gateway; `None` without a name, or with a field of another shape.
    #[must_use]
    pub fn from_json(object: &Value) -> Option<Self> {
        let namespace = object.pointer("/metadata/namespace");
        let namespace = namespace
            .and_then(Value::as_str)
            .unwrap_or(namespace::DEFAULT);
        let name = object.pointer("/metadata/name")?.as_str()?;
        Some(Self {
            name: ObjectName::new(namespace, name),
            generation: generation(object),
            spec: GatewaySpec::deserialize(object.get("spec")?).ok()?,
        })
    }

    /// Whether a listener selects namespaces by their labels.
    #[must_use]
    pub fn selects_namespaces(&self) -> bool {
        let mut listeners = self.spec.listeners.iter();
        listeners.any(|one| one.allowed_routes.namespaces.from == "Selector")
    }
}

fn generation(object: &Value) -> i64 {
    let generation = object.pointer("/metadata/generation");
    generation.and_then(Value::as_i64).unwrap_or(0)
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Whether these labels are as it says. An operator that is not known matches nothing.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut exact = self.match_labels.iter();
        exact.all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|one| {
                let value = labels.get(&one.key);
                let is_listed = value.is_some_and(|value| one.values.contains(value));
                match one.operator.as_str() {
                    "In" => is_listed,
                    "NotIn" => !is_listed,
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}
