use std::collections::BTreeSet;
use std::sync::Arc;

use crds::{ConditionType, Reason};
use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use operator_compile::{Compiled, GatewayVerdict, Judgement, ListenerVerdict};
use operator_publish::{Fleet, Publication, Replica};
use proxy_core::names::{EntryKind, EntryName, ObjectName};
use serde_json::{Value, json};

use super::{Facts, addresses};
use crate::compiler::Compilation;
use crate::status::PublishedTable;

fn route() -> ObjectName {
    ObjectName::new("team", "chat")
}

fn table() -> PublishedTable {
    let entry = EntryName::new(EntryKind::Route, route());
    PublishedTable {
        compilation: Compilation {
            revision: 1,
            compiled: Arc::new(Compiled::default()),
        },
        publication: Publication {
            sequence: 7,
            digest: "d".into(),
            changed_at: [(entry, 5)].into_iter().collect(),
        },
    }
}

fn fleet(acked: &[Option<u64>]) -> Fleet {
    let replicas = acked.iter().map(|acked| Replica {
        id: "proxy".to_owned(),
        pod: None,
        silent_since_ms: None,
        acked: *acked,
        refused: None,
        unsupported: Arc::default(),
        store_lost: false,
        tokenless: Arc::default(),
        outages: Arc::default(),
    });
    Fleet {
        replicas: replicas.collect(),
    }
}

fn verdict() -> GatewayVerdict {
    let judgement = |condition, reason| Judgement {
        condition,
        holds: true,
        reason,
        message: String::new(),
    };
    GatewayVerdict {
        generation: 2,
        accepted: judgement(ConditionType::Accepted, Reason::Accepted),
        listeners: vec![ListenerVerdict {
            name: "web".to_owned(),
            takes_routes: true,
            attached: 1,
            conditions: vec![judgement(ConditionType::Programmed, Reason::Programmed)],
        }],
        routes: BTreeSet::from([route()]),
    }
}

fn gateway(status: &Value) -> DynamicObject {
    let gateway = json!({
        "metadata": {"name": "edge", "namespace": "infra", "generation": 2, "uid": "u"},
        "status": status,
    });
    serde_json::from_value(gateway).expect("a Gateway")
}

fn service(value: &Value) -> Service {
    serde_json::from_value(value.clone()).expect("a Service")
}

/// The patch of a Gateway with a Service that has an address.
fn patch(acked: &[Option<u64>], is_settled: bool, stored: &Value) -> Option<Value> {
    let (table, fleet) = (table(), fleet(acked));
    let service = service(&json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.7"}}));
    let facts = Facts {
        table: &table,
        fleet: &fleet,
        service: Some(&service),
        is_settled,
    };
    let gateway = gateway(stored);
    facts
        .of_gateway(&gateway, &verdict())
        .changed(&gateway, 9_000)
}

fn programmed(patch: &Value) -> String {
    let condition = &patch["status"]["conditions"][1];
    assert_eq!(condition["type"], "Programmed");
    let word = |field: &str| condition[field].as_str().expect("a word").to_owned();
    format!("{} {}", word("status"), word("reason"))
}

#[test]
fn a_gateway_is_programmed_when_every_proxy_has_its_routes() {
    let check = |acked: &[Option<u64>], expect: &str| {
        let patch = patch(acked, true, &json!({})).expect("nothing is stored");
        assert_eq!(programmed(&patch), expect);
    };
    check(&[], "False Pending");
    check(&[Some(5), None], "False Pending");
    check(&[Some(5), Some(4)], "False Pending");
    check(&[Some(5), Some(6)], "True Programmed");
}

#[test]
fn a_stored_status_is_not_written_again() {
    let patch_of = |acked: &[Option<u64>], settled, stored: &Value| patch(acked, settled, stored);
    let first = patch_of(&[Some(5)], true, &json!({})).expect("nothing is stored");
    let stored = &first["status"];
    assert_eq!(
        stored["addresses"],
        json!([{"type": "IPAddress", "value": "10.0.0.7"}])
    );
    assert_eq!(stored["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(patch_of(&[Some(5)], true, stored), None);
    // Once programmed, its routes say how far they are, and a restarted operator waits for its proxies.
    assert_eq!(patch_of(&[Some(4)], true, stored), None);
    assert_eq!(patch_of(&[], false, stored), None);
    let alone = patch_of(&[], true, stored).expect("no proxy is left");
    assert_eq!(programmed(&alone), "False Pending");
}

#[test]
fn a_status_of_another_generation_waits_for_its_verdict() {
    let (table, fleet) = (table(), fleet(&[Some(5)]));
    let facts = Facts {
        table: &table,
        fleet: &fleet,
        service: None,
        is_settled: true,
    };
    let mut newer = gateway(&json!({}));
    newer.metadata.generation = Some(3);
    assert_eq!(
        facts.of_gateway(&newer, &verdict()).changed(&newer, 0),
        None
    );
    let without_service = gateway(&json!({}));
    let wanted = facts.of_gateway(&without_service, &verdict());
    let patch = wanted
        .changed(&without_service, 0)
        .expect("nothing is stored");
    assert_eq!(programmed(&patch), "False AddressNotAssigned");
}

#[test]
fn addresses_are_those_of_the_balancer_or_of_the_cluster() {
    let check = |value: Value, expect: &[(&str, &str)]| {
        let found = addresses(&service(&value));
        let found: Vec<(&str, &str)> = found.iter().map(|one| (one.type_, &*one.value)).collect();
        assert_eq!(found, expect, "{value}");
    };
    let balancer =
        json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "lb.example.com"}]}});
    check(
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.7"}, "status": balancer}),
        &[("IPAddress", "1.2.3.4"), ("Hostname", "lb.example.com")],
    );
    check(
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.7"}}),
        &[],
    );
    check(
        json!({"spec": {"clusterIP": "10.0.0.7"}}),
        &[("IPAddress", "10.0.0.7")],
    );
    check(json!({"spec": {"clusterIP": "None"}}), &[]);
}
