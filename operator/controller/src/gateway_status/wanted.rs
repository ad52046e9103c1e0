//! The status that a GatewayClass or a Gateway should have. Pure.

use crds::{Condition, ConditionStatus, ConditionType, Reason};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use operator_compile::gateway::GATEWAY_GROUP;
use operator_compile::{ClassVerdict, GatewayVerdict, Judgement, Kind, ListenerVerdict};
use operator_publish::Fleet;
use proxy_core::names::{EntryKind, EntryName};
use serde_json::{Value, json};

use crate::status::PublishedTable;
use crate::status::parents::{are_stored, conditions};

#[cfg(test)]
mod tests;

/// What is known of the data plane.
pub(super) struct Facts<'a> {
    pub(super) table: &'a PublishedTable,
    pub(super) fleet: &'a Fleet,
    pub(super) service: Option<&'a Service>,
    /// Every replica has had the time to find this operator.
    pub(super) is_settled: bool,
}

/// A status to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WantedStatus {
    kind: &'static str,
    generation: i64,
    conditions: Vec<Judgement>,
    /// Of a Gateway.
    more: Option<More>,
}

/// What only Gateways have.
#[derive(Clone, Debug, PartialEq)]
struct More {
    listeners: Vec<ListenerVerdict>,
    addresses: Vec<Address>,
}

/// An address of the proxies: `IPAddress` or `Hostname`, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    type_: &'static str,
    value: String,
}

// === impl Facts ===

impl Facts<'_> {
    pub(super) fn of_gateway(
        &self,
        gateway: &DynamicObject,
        verdict: &GatewayVerdict,
    ) -> WantedStatus {
        let addresses = self.service.map(addresses).unwrap_or_default();
        let accepted = verdict.accepted.clone();
        let programmed = if accepted.holds {
            let was = stored_condition(gateway, "Programmed").is_some_and(|was| {
                was.status == ConditionStatus::True
                    && was.observed_generation == Some(verdict.generation)
            });
            self.programmed(verdict, !addresses.is_empty(), was)
        } else {
            let message = "it is not accepted";
            judgement(false, Reason::Invalid, message)
        };
        WantedStatus {
            kind: "Gateway",
            generation: verdict.generation,
            conditions: vec![accepted, programmed],
            more: Some(More {
                listeners: verdict.listeners.clone(),
                addresses,
            }),
        }
    }

    /// Whether every proxy has the routes of a Gateway. Once so, its routes say themselves how far they are: a change
    /// of one would be two writes of the Gateway.
    fn programmed(&self, verdict: &GatewayVerdict, has_address: bool, was: bool) -> Judgement {
        if !has_address {
            let message = "the Service of the proxies has no address yet";
            return judgement(false, Reason::AddressNotAssigned, message);
        }
        let changed_at = &self.table.publication.changed_at;
        let routes = verdict.routes.iter().filter_map(|route| {
            let entry = EntryName::new(EntryKind::Route, route.clone());
            changed_at.get(&entry)
        });
        let newest = routes.max().unwrap_or(0);
        let replicas = &self.fleet.replicas;
        let mut acked = replicas.iter().map(|replica| replica.acked);
        let have =
            !replicas.is_empty() && acked.all(|acked| acked.is_some_and(|acked| acked >= newest));
        let is_kept = was && (!replicas.is_empty() || !self.is_settled);
        if have || is_kept {
            judgement(true, Reason::Programmed, "")
        } else if replicas.is_empty() {
            judgement(false, Reason::Pending, "no proxy is connected")
        } else {
            judgement(false, Reason::Pending, "not every proxy has its routes yet")
        }
    }
}

fn judgement(holds: bool, reason: Reason, message: &str) -> Judgement {
    Judgement {
        condition: ConditionType::Programmed,
        holds,
        reason,
        message: message.to_owned(),
    }
}

/// Those of the balancer, else those within the cluster.
fn addresses(service: &Service) -> Vec<Address> {
    let address = |type_, value: &String| Address {
        type_,
        value: value.clone(),
    };
    let status = service.status.iter();
    let balancer = status.filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let outside = balancer.flatten().filter_map(|ingress| {
        let ip = ingress.ip.as_ref().map(|ip| address("IPAddress", ip));
        ip.or_else(|| {
            ingress
                .hostname
                .as_ref()
                .map(|host| address("Hostname", host))
        })
    });
    let outside: Vec<Address> = outside.collect();
    let spec = service.spec.as_ref();
    let type_ = spec.and_then(|spec| spec.type_.as_deref());
    if !outside.is_empty() || type_ == Some("LoadBalancer") {
        return outside;
    }
    let inside = spec.and_then(|spec| spec.cluster_ip.as_ref());
    let inside = inside.filter(|ip| !ip.is_empty() && *ip != "None");
    inside
        .map(|ip| address("IPAddress", ip))
        .into_iter()
        .collect()
}

// === impl WantedStatus ===

impl WantedStatus {
    pub(super) fn of_class(verdict: &ClassVerdict) -> Self {
        Self {
            kind: "GatewayClass",
            generation: verdict.generation,
            conditions: verdict.conditions.clone(),
            more: None,
        }
    }

    /// The patch that stores it; `None` if it is stored already, or if another generation was judged.
    pub(super) fn changed(&self, object: &DynamicObject, now_ms: i64) -> Option<Value> {
        if object.metadata.generation.unwrap_or(0) != self.generation {
            return None;
        }
        let stored = object.data.get("status").cloned().unwrap_or_default();
        let before = read_conditions(&stored);
        let is_stored = are_stored(&self.conditions, &before, self.generation)
            && self
                .more
                .as_ref()
                .is_none_or(|more| more.is_stored(&stored, self.generation));
        if is_stored {
            return None;
        }
        let now = Timestamp::from_second(now_ms.div_euclid(1_000)).unwrap_or_default();
        let mut status = json!({
            "conditions": conditions(&self.conditions, &before, self.generation, now),
        });
        if let (Some(more), Some(fields)) = (&self.more, status.as_object_mut()) {
            let listeners = more.listeners(&stored, self.generation, now);
            fields.insert("listeners".to_owned(), Value::Array(listeners));
            fields.insert("addresses".to_owned(), more.addresses());
        }
        Some(json!({
            "apiVersion": format!("{GATEWAY_GROUP}/v1"),
            "kind": self.kind,
            "metadata": {
                "name": object.name_any(),
                "namespace": object.namespace(),
                "uid": object.uid(),
            },
            "status": status,
        }))
    }
}

// === impl More ===

impl More {
    fn is_stored(&self, stored: &Value, generation: i64) -> bool {
        let listeners = stored.get("listeners").and_then(Value::as_array);
        let listeners = listeners.map(Vec::as_slice).unwrap_or_default();
        let same = |(wanted, stored): (&ListenerVerdict, &Value)| {
            stored.get("name").and_then(Value::as_str) == Some(wanted.name.as_str())
                && stored.get("attachedRoutes") == Some(&json!(wanted.attached))
                && stored.get("supportedKinds") == Some(&kinds(wanted))
                && are_stored(&wanted.conditions, &read_conditions(stored), generation)
        };
        let addresses = stored
            .get("addresses")
            .cloned()
            .unwrap_or_else(|| json!([]));
        self.listeners.len() == listeners.len()
            && self.listeners.iter().zip(listeners).all(same)
            && addresses == self.addresses()
    }

    fn listeners(&self, stored: &Value, generation: i64, now: Timestamp) -> Vec<Value> {
        let stored = stored.get("listeners").and_then(Value::as_array);
        let listener = |wanted: &ListenerVerdict| {
            let mut stored = stored.into_iter().flatten();
            let before = stored.find(|one| one.get("name") == Some(&json!(wanted.name)));
            let before = before.map(read_conditions).unwrap_or_default();
            json!({
                "name": wanted.name,
                "attachedRoutes": wanted.attached,
                "supportedKinds": kinds(wanted),
                "conditions": conditions(&wanted.conditions, &before, generation, now),
            })
        };
        self.listeners.iter().map(listener).collect()
    }

    fn addresses(&self) -> Value {
        let addresses = self.addresses.iter();
        addresses
            .map(|one| json!({"type": one.type_, "value": one.value}))
            .collect()
    }
}

fn kinds(listener: &ListenerVerdict) -> Value {
    if listener.takes_routes {
        json!([{"group": crds::GROUP, "kind": Kind::AiRoute.as_str()}])
    } else {
        json!([])
    }
}

fn read_conditions(status: &Value) -> Vec<Condition> {
    let conditions = status.get("conditions").and_then(Value::as_array);
    let conditions = conditions.into_iter().flatten();
    conditions
        .filter_map(|one| serde_json::from_value(one.clone()).ok())
        .collect()
}

fn stored_condition(object: &DynamicObject, type_: &str) -> Option<Condition> {
    let conditions = read_conditions(object.data.get("status")?);
    conditions.into_iter().find(|one| one.type_ == type_)
}
