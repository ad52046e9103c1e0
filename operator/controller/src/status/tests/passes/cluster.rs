//! The objects of the property, and the API server that stores them for one writer.

use operator_compile::{ObjectRef, Settings, Tenants};

use super::super::*;
use super::Overwrite;
use crate::scenario::refusal;

/// Each object with its specs.
pub(super) fn specs() -> Vec<(ObjectRef, Vec<Value>)> {
    let object = |kind, name: &str| ObjectRef::new(kind, ObjectName::new("team", name));
    let backend = |name| (object(Kind::AiBackend, name), backends());
    let route = |name| (object(Kind::AiRoute, name), routes());
    let quota = |name| (object(Kind::AiQuota, name), quotas());
    vec![
        backend("eu"),
        backend("us"),
        route("one"),
        route("two"),
        route("three"),
        quota("spend"),
        quota("rate"),
    ]
}

fn backends() -> Vec<Value> {
    let spec = |endpoint: &str, deployments: Value| {
        json!({
            "type": "Foundry", "endpoint": endpoint, "auth": {"type": "None"}, "deployments": deployments,
        })
    };
    let plain = json!([{"name": "gpt-4o"}]);
    let old = json!([{"name": "gpt-4o", "retires": "2026-02-01"}]);
    vec![
        spec("https://contoso.example", plain.clone()),
        spec("https://contoso.example", old),
        spec("http://contoso.example", plain),
        json!({"type": "Unknown"}),
    ]
}

fn routes() -> Vec<Value> {
    let keys = json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat"}}}});
    let spec = |hostnames: Value, backends: Value| {
        json!({
            "authentication": keys, "hostnames": hostnames,
            "rules": [{"name": "all", "backendRefs": backends}],
        })
    };
    let eu = json!([{"name": "eu"}]);
    let lacking = json!([{"name": "eu"}, {"name": "missing"}]);
    vec![
        spec(json!([]), eu.clone()),
        spec(json!(["x.example.com"]), eu),
        spec(json!(["x.example.com"]), json!([{"name": "us"}])),
        spec(json!([]), lacking),
        json!({"rules": "none"}),
    ]
}

fn quotas() -> Vec<Value> {
    let limit = json!([{"name": "minute", "unit": "Requests", "limit": 10, "window": "Minute"}]);
    let other = json!([{"name": "minute", "unit": "Requests", "limit": 9, "window": "Minute"}]);
    let target = json!([{"kind": "AIRoute", "name": "one"}]);
    vec![
        json!({"limits": limit}),
        json!({"limits": other}),
        json!({"limits": limit, "targetRefs": target}),
        json!({"limits": "none"}),
    ]
}

pub(super) fn settings() -> Settings {
    Settings {
        own_namespace: "gateway".to_owned(),
        grants_served: false,
        tenants: Tenants::One,
        host_grants: Vec::new(),
        identity_grants: operator_compile::IdentityGrants::All,
        reach: proxy_core::reach::Reach::default(),
        backend_hosts: Vec::new(),
        gateways: None,
        today: operator_compile::Day::at(0),
        secrets: operator_compile::Secrets::All,
    }
}

/// What an API server stores.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) objects: BTreeMap<ObjectRef, Value>,
    /// The objects whose status was written since the last look, in the order of writing.
    pub(super) writes: Vec<ObjectRef>,
    pub(super) fails: bool,
}

// === impl Server ===

impl Server {
    /// Stores a spec; a new object has this uid.
    pub(super) fn put(&mut self, object: &ObjectRef, spec: &Value, uid: u64) {
        let mut new = json!({
            "apiVersion": "tundish.dev/v1alpha1",
            "kind": object.kind.as_str(),
            "metadata": {
                "namespace": object.name.namespace(), "name": object.name.name(),
                "uid": uid.to_string(), "generation": 1, "resourceVersion": "1",
            },
            "spec": spec,
        });
        if let Some(present) = self.objects.get(object) {
            if present["spec"] == *spec {
                return;
            }
            new["metadata"] = present["metadata"].clone();
            new["status"] = present["status"].clone();
            let generation = present["metadata"]["generation"].as_i64().unwrap_or(0);
            new["metadata"]["generation"] = json!(generation + 1);
            count_up(&mut new);
        }
        self.objects.insert(object.clone(), new);
    }

    /// Somebody else writes a status.
    pub(super) fn overwrite(&mut self, object: &ObjectRef, how: Overwrite) {
        let Some(stored) = self.objects.get_mut(object) else {
            return;
        };
        let generation = stored["metadata"]["generation"].as_i64().unwrap_or(0);
        let status = &mut stored["status"];
        match how {
            Overwrite::Empty => *status = json!({}),
            Overwrite::OtherMessage => {
                let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
                let last = conditions.and_then(|all| all.last_mut());
                if let Some(last) = last {
                    last["message"] = json!("by somebody else");
                }
            }
            Overwrite::OtherNumbers => {
                *status = json!({
                    "observedGeneration": generation, "conditions": status["conditions"],
                    "programmed": "7/9", "deployments": "7/9 serving",
                });
            }
            Overwrite::Newer => status["observedGeneration"] = json!(generation + 1),
            Overwrite::InForce => *status = in_force(generation),
        }
        count_up(stored);
    }

    /// Answers the write of a status.
    fn write(&mut self, call: &Call) -> (StatusCode, Value) {
        let text = |pointer: &str| {
            let found = call.body.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let mut objects = self.objects.iter_mut();
        let found = objects.find(|(object, _)| {
            object.kind.as_str() == text("/kind") && object.name.name() == text("/metadata/name")
        });
        if self.fails {
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
        }
        let Some((object, stored)) = found else {
            return refusal(StatusCode::NOT_FOUND, "NotFound");
        };
        if stored["metadata"]["uid"] != call.body["metadata"]["uid"] {
            return refusal(StatusCode::CONFLICT, "Conflict");
        }
        stored["status"] = call.body["status"].clone();
        count_up(stored);
        self.writes.push(object.clone());
        (StatusCode::OK, stored.clone())
    }

    /// The stored statuses without their times, which are those of the real clock.
    pub(super) fn statuses(&self) -> BTreeMap<ObjectRef, Value> {
        let mut all = BTreeMap::new();
        for (object, stored) in &self.objects {
            let mut status = stored["status"].clone();
            let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
            for condition in conditions.into_iter().flatten() {
                condition["lastTransitionTime"] = Value::Null;
            }
            all.insert(object.clone(), status);
        }
        all
    }

    /// What stands for the server.
    pub(super) fn scenario(server: &Arc<Mutex<Self>>) -> Scenario {
        let server = Arc::clone(server);
        Scenario::default().rule(move |call| {
            let is_status = call.method == Method::PATCH && call.path.ends_with("/status");
            is_status.then(|| server.lock().write(call))
        })
    }
}

fn count_up(stored: &mut Value) {
    let version = stored["metadata"]["resourceVersion"].as_str();
    let version = version.and_then(|text| text.parse::<u64>().ok());
    stored["metadata"]["resourceVersion"] = json!((version.unwrap_or(0) + 1).to_string());
}

/// The status of a sound object that every proxy has.
fn in_force(generation: i64) -> Value {
    let wanted = wanted(&sound(generation), &fleet(&[Some(5)]));
    stored(&wanted, &StoredObject::default(), 0).0
}
