//! Gateways for the `parentRefs` of a folder. A Gateway that it has is judged by its listeners' names, hosts and
//! `allowedRoutes`. Another one gets a stand-in that takes every route, so that only what the cluster has is unknown.
//!
//! Whether a Gateway is served, by its class, ports and certificates, is left to the operator.

use std::collections::{BTreeMap, BTreeSet};

use crds::ParentRef;
use operator_compile::gateway::{
    CONTROLLER_NAME, GATEWAY_GROUP, Gateway, GatewayClass, GatewaySpec, Gateways, LabelSelector,
    Listener,
};
use operator_compile::{Kind, ObjectRef};
use proxy_core::names::ObjectName;
use serde::Deserialize as _;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// The class of the chart, where the folder has none of ours.
const CLASS: &str = "tundish";

/// What a folder says of Gateways.
#[derive(Debug, Default)]
pub(super) struct Parents {
    gateways: Gateways,
    /// Names of the classes in the folder, and whether they are ours.
    classes: BTreeMap<String, bool>,
}

/// A reference that only a cluster can judge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unjudged {
    pub(super) route: ObjectRef,
    pub(super) field: String,
    pub(super) message: String,
}

/// A reference of a route, and its field.
struct Reference {
    route: ObjectRef,
    field: String,
    gateway: ObjectName,
    section: String,
}

// === impl Parents ===

impl Parents {
    /// Takes in a GatewayClass, a Gateway or a Namespace. False for anything else.
    pub(super) fn take(&mut self, object: &Value) -> bool {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        match (text("/apiVersion"), text("/kind"), text("/metadata/name")) {
            (Some("gateway.networking.k8s.io/v1"), Some("GatewayClass"), Some(name)) => {
                let class = GatewayClass::from_json(object);
                let is_ours = class.controller_name == CONTROLLER_NAME;
                self.classes.insert(name.to_owned(), is_ours);
                true
            }
            (Some(_), Some("Gateway" | "Namespace"), Some(_)) => self.gateways.apply(object),
            _ => false,
        }
    }

    /// The Gateways to compile `routes` with, and what cannot be judged. `None` if no route names one.
    pub(super) fn of<'a>(
        mut self,
        routes: impl Iterator<Item = (&'a ObjectRef, Value)>,
    ) -> Option<(Gateways, Vec<Unjudged>)> {
        let references: Vec<Reference> = routes
            .filter(|(object, _)| object.kind == Kind::AiRoute)
            .flat_map(|(object, route)| references(object, &route))
            .collect();
        if references.is_empty() {
            return None;
        }
        let ours = self.classes.iter().find(|(_, is_ours)| **is_ours);
        let class = ours.map_or_else(|| CLASS.to_owned(), |(name, _)| name.clone());
        let mut unjudged = Vec::new();
        let known_namespaces: BTreeSet<String> = self.gateways.namespaces.keys().cloned().collect();
        let mut declared = std::mem::take(&mut self.gateways.gateways);
        // A class that the folder lacks may be any controller's.
        declared.retain(|_, gateway| {
            let name = &gateway.spec.gateway_class_name;
            *name == class || self.classes.contains_key(name)
        });
        let mut gateways: BTreeMap<ObjectName, Gateway> = BTreeMap::new();
        for reference in &references {
            let namespace = reference.route.name.namespace();
            let name = &reference.gateway;
            let in_folder = declared.get(name);
            let gateway = gateways
                .entry(name.clone())
                .or_insert_with(|| in_folder.map_or_else(|| stand_in(name, &class), judged));
            let selects = gateway.selects_namespaces();
            let message = if in_folder.is_none() {
                let sections = &mut gateway.spec.listeners;
                if sections.iter().all(|one| one.name != reference.section) {
                    sections.push(listener(&reference.section, sections.len()));
                }
                format!(
                    "Gateway {name} is not in the folder, or its class is not: the cluster says whether it takes \
                     AIRoutes of namespace {namespace}"
                )
            } else if selects && !known_namespaces.contains(namespace) {
                for listener in &mut gateway.spec.listeners {
                    listener.allowed_routes.namespaces.selector = LabelSelector::default();
                }
                format!(
                    "Gateway {name} selects namespaces by labels, and Namespace {namespace} is not in the folder: \
                     the cluster says whether it takes its AIRoutes"
                )
            } else {
                continue;
            };
            self.gateways
                .namespaces
                .entry(namespace.to_owned())
                .or_default();
            unjudged.push(Unjudged {
                route: reference.route.clone(),
                field: reference.field.clone(),
                message,
            });
        }
        let from = gateways.keys().map(|name| name.namespace().to_owned());
        self.gateways.from = from.collect();
        self.gateways.gateways = gateways;
        self.gateways.class = Some(GatewayClass {
            controller_name: CONTROLLER_NAME.to_owned(),
            ..GatewayClass::default()
        });
        self.gateways.class_name = class;
        Some((self.gateways, unjudged))
    }
}

/// The Gateways that a route names. Another kind, or what cannot be read, is judged without one.
fn references(object: &ObjectRef, route: &Value) -> Vec<Reference> {
    let list = route.pointer("/spec/parentRefs").and_then(Value::as_array);
    let read = list.into_iter().flatten().enumerate();
    let read = read.filter_map(|(index, one)| {
        let parent = ParentRef::deserialize(one).ok()?;
        let is_gateway = (parent.group.is_empty() || parent.group == GATEWAY_GROUP)
            && (parent.kind.is_empty() || parent.kind == "Gateway");
        let namespace = if parent.namespace.is_empty() {
            object.name.namespace()
        } else {
            &parent.namespace
        };
        is_gateway.then(|| Reference {
            route: object.clone(),
            field: format!("spec.parentRefs[{index}]"),
            gateway: ObjectName::new(namespace, parent.name.as_str()),
            section: parent.section_name.clone(),
        })
    });
    read.collect()
}

/// A Gateway that takes what is attached to it.
fn stand_in(name: &ObjectName, class: &str) -> Gateway {
    Gateway {
        name: name.clone(),
        generation: 0,
        spec: GatewaySpec {
            gateway_class_name: class.to_owned(),
            ..GatewaySpec::default()
        },
    }
}

/// A listener for every namespace whose labels are known.
fn listener(name: &str, index: usize) -> Listener {
    let mut listener = Listener {
        name: name.to_owned(),
        ..Listener::default()
    };
    listener.allowed_routes.namespaces.from = "Selector".to_owned();
    plain(&mut listener, index);
    listener
}

/// The Gateway with listeners that are served wherever they are.
fn judged(gateway: &Gateway) -> Gateway {
    let mut gateway = gateway.clone();
    gateway.spec.addresses.clear();
    gateway.spec.infrastructure.parameters_ref = None;
    for (index, listener) in gateway.spec.listeners.iter_mut().enumerate() {
        plain(listener, index);
    }
    gateway
}

/// Gives a listener a protocol that needs no certificate, and a port of its own.
fn plain(listener: &mut Listener, index: usize) {
    "HTTP".clone_into(&mut listener.protocol);
    listener.tls = None;
    listener.port = i32::try_from(index).unwrap_or(i32::MAX);
}
