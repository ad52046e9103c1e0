//! Objects for tests, short enough to read.

use serde_json::{Value, json};

use crate::gateway::{CONTROLLER_NAME, Gateways};
use crate::{
    Compiled, Day, IdentityGrants, Index, Kind, Object, ObjectRef, Secrets, Settings, Tenants,
    Verdict, compile, decode,
};
use proxy_core::names::ObjectName;
use proxy_core::reach::Reach;

/// Decodes an object; one that can't be read becomes [`Object::Undecodable`].
pub(crate) fn object(value: Value) -> Object {
    let word = |field: &str| value[field].as_str().unwrap().to_owned();
    let (kind, api_version) = (word("kind"), word("apiVersion"));
    match decode(&kind, &api_version, value) {
        Ok(object) => object.expect("the kind is compiled"),
        Err(problem) => problem.into_object().expect("the object has a name"),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        own_namespace: crate::INSTALLATION_NAMESPACE.to_owned(),
        grants_served: true,
        tenants: Tenants::OfRoutes,
        host_grants: Vec::new(),
        identity_grants: IdentityGrants::All,
        secrets: Secrets::All,
        reach: Reach::default(),
        backend_hosts: Vec::new(),
        gateways: None,
        today: Day::at(0),
    }
}

/// Compiles on another day.
pub(crate) fn compile_on(today: &str, objects: impl IntoIterator<Item = Value>) -> Compiled {
    let mut index = Index::default();
    for value in objects {
        index.apply(object(value));
    }
    let settings = Settings {
        today: Day::parse(today).unwrap(),
        ..settings()
    };
    compile(&index, &settings)
}

pub(crate) fn compiled(objects: impl IntoIterator<Item = Value>) -> Compiled {
    let mut index = Index::default();
    for value in objects {
        index.apply(object(value));
    }
    compile(&index, &settings())
}

pub(crate) fn ours(kind: &str, name: &str, spec: &Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    })
}

pub(crate) fn backend(name: &str) -> Value {
    ours(
        "AIBackend",
        name,
        &json!({
            "type": "Foundry",
            "endpoint": "https://contoso.example",
            "auth": {"type": "None"},
            "deployments": [{"name": "gpt-4o"}],
        }),
    )
}

/// A route for everybody, with one rule `all` to the AIBackend `eu` of its namespace.
pub(crate) fn route(name: &str) -> Value {
    ours(
        "AIRoute",
        name,
        &json!({
            "authentication": {"anonymous": {}},
            "rules": [{"name": "all", "backendRefs": [{"name": "eu"}]}],
        }),
    )
}

pub(crate) fn quota(name: &str) -> Value {
    let limit = json!({"name": "minute", "unit": "Requests", "limit": 10, "window": "Minute"});
    ours("AIQuota", name, &json!({"limits": [limit]}))
}

/// A Secret with the label `keys: chat`.
pub(crate) fn secret(name: &str, key: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": namespace, "name": name, "labels": {"keys": "chat"}},
        "stringData": {"key": key},
    })
}

/// Lets AIRoutes of `from` refer to every AIBackend of the grant's namespace.
pub(crate) fn grant(name: &str, from: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "from": [{"group": "tundish.dev", "kind": "AIRoute", "namespace": from}],
            "to": [{"group": "tundish.dev", "kind": "AIBackend"}],
        },
    })
}

pub(crate) fn named(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, ObjectName::parse(name).unwrap())
}

pub(crate) fn verdict<'a>(compiled: &'a Compiled, kind: Kind, name: &str) -> &'a Verdict {
    &compiled.verdicts[&named(kind, name)]
}

/// `REASON at FIELD` of every diagnostic of an object.
pub(crate) fn found(compiled: &Compiled, kind: Kind, name: &str) -> Vec<String> {
    let diagnostics = verdict(compiled, kind, name).diagnostics.iter();
    diagnostics
        .map(|d| format!("{} at {}", d.reason, d.field))
        .collect()
}

/// Compiles objects, with the GatewayClasses, Gateways, Namespaces and the Service among them.
pub(crate) fn compiled_with(
    mut gateways: Gateways,
    objects: impl IntoIterator<Item = Value>,
) -> Compiled {
    let mut index = Index::default();
    for value in objects {
        if !gateways.apply(&value) {
            index.apply(object(value));
        }
    }
    let settings = Settings {
        gateways: Some(gateways),
        ..settings()
    };
    compile(&index, &settings)
}

/// What an installation follows whose proxies serve plain HTTP, with its class.
pub(crate) fn gateways() -> Gateways {
    let mut gateways = Gateways {
        class_name: "tundish".to_owned(),
        bundle_version: Some("v1.6.3".to_owned()),
        ..Gateways::default()
    };
    gateways.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "tundish", "generation": 1},
        "spec": {"controllerName": CONTROLLER_NAME},
    }));
    gateways
}

/// A Gateway of the installation's class.
pub(crate) fn gateway(name: &str, listeners: &Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"namespace": namespace, "name": name, "generation": 3},
        "spec": {"gatewayClassName": "tundish", "listeners": listeners},
    })
}
