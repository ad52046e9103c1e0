use crds::ConditionType;
use proxy_core::names::ObjectName;
use serde_json::{Value, json};

use super::GatewayVerdict;
use crate::fixture::{compiled_with, gateway, gateways, grant};
use crate::gateway::Gateways;

const EDGE: &str = "tundish-system/edge";

/// Proxies with a certificate, at port 443.
fn secure() -> Gateways {
    Gateways {
        certificates: vec!["cert".to_owned()],
        ports: Some(vec![443]),
        ..gateways()
    }
}

fn judged(
    gateways: Gateways,
    objects: impl IntoIterator<Item = Value>,
    name: &str,
) -> GatewayVerdict {
    let compiled = compiled_with(gateways, objects);
    let name = ObjectName::parse(name).unwrap();
    compiled.gateways.gateways[&name].clone()
}

/// `Accepted` of the Gateway, then the reasons of the listener's conditions.
fn words(verdict: &GatewayVerdict) -> String {
    let accepted = &verdict.accepted;
    let listeners = verdict.listeners.iter().map(|listener| {
        let reasons = listener.conditions.iter().map(|one| one.reason.as_str());
        format!(
            "{}: {}",
            listener.name,
            reasons.collect::<Vec<_>>().join(" ")
        )
    });
    let listeners: Vec<String> = listeners.collect();
    format!(
        "{} {}; {}",
        accepted.holds,
        accepted.reason,
        listeners.join("; ")
    )
}

#[track_caller]
fn check(gateways: Gateways, listeners: &Value, expect: &str) {
    assert_eq!(
        words(&judged(gateways, [gateway(EDGE, listeners)], EDGE)),
        expect
    );
}

#[test]
fn plain_http_is_served_without_a_certificate() {
    let http = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    check(
        gateways(),
        &http,
        "true Accepted; http: Accepted NoConflicts Programmed ResolvedRefs",
    );
    let expect =
        "false ListenersNotValid; http: UnsupportedProtocol NoConflicts Invalid ResolvedRefs";
    check(secure(), &http, expect);
    let https = json!([{"name": "s", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}}]);
    check(
        secure(),
        &https,
        "true Accepted; s: Accepted NoConflicts Programmed ResolvedRefs",
    );
    let expect =
        "false ListenersNotValid; s: UnsupportedProtocol NoConflicts Invalid InvalidCertificateRef";
    check(gateways(), &https, expect);
}

#[test]
fn a_listener_that_is_not_served_leaves_the_others() {
    let listeners = json!([
        {"name": "ok", "port": 80, "protocol": "HTTP"},
        {"name": "tcp", "port": 5432, "protocol": "TCP"},
        {"name": "kinds", "port": 80, "protocol": "HTTP", "hostname": "a.example.com",
         "allowedRoutes": {"kinds": [{"kind": "HTTPRoute"}]}},
        {"name": "host", "port": 80, "protocol": "HTTP", "hostname": "10.0.0.1:80"},
        {"name": "port", "port": 8080, "protocol": "HTTP"},
    ]);
    let gateways = Gateways {
        ports: Some(vec![80]),
        ..gateways()
    };
    check(
        gateways,
        &listeners,
        "true ListenersNotValid; ok: Accepted NoConflicts Programmed ResolvedRefs; \
         tcp: UnsupportedProtocol NoConflicts Invalid ResolvedRefs; \
         kinds: Accepted NoConflicts Programmed InvalidRouteKinds; \
         host: Invalid NoConflicts Invalid ResolvedRefs; \
         port: PortUnavailable NoConflicts Invalid ResolvedRefs",
    );
}

#[test]
fn two_listeners_of_one_host_and_port_are_in_conflict() {
    let listeners = json!([
        {"name": "a", "port": 80, "protocol": "HTTP", "hostname": "a.example.com"},
        {"name": "b", "port": 80, "protocol": "HTTP", "hostname": "A.example.com"},
        {"name": "c", "port": 80, "protocol": "HTTP", "hostname": "c.example.com"},
    ]);
    check(
        gateways(),
        &listeners,
        "true ListenersNotValid; a: Accepted HostnameConflict Invalid ResolvedRefs; \
         b: Accepted HostnameConflict Invalid ResolvedRefs; \
         c: Accepted NoConflicts Programmed ResolvedRefs",
    );
}

#[test]
fn a_certificate_is_one_of_the_proxies_and_its_owner_permits_it() {
    let listeners =
        |tls: Value| json!([{"name": "s", "port": 443, "protocol": "HTTPS", "tls": tls}]);
    let reason = |gateways: Gateways, name: &str, tls: Value, more: Option<Value>| {
        let objects = [gateway(name, &listeners(tls))].into_iter().chain(more);
        let verdict = judged(gateways, objects, name);
        let conditions = &verdict.listeners[0].conditions;
        let resolved = conditions
            .iter()
            .find(|one| one.condition == ConditionType::ResolvedRefs);
        resolved.unwrap().reason.to_string()
    };
    let own = json!({"certificateRefs": [{"name": "cert"}]});
    assert_eq!(reason(secure(), EDGE, own, None), "ResolvedRefs");
    let other = json!({"certificateRefs": [{"name": "other"}]});
    assert_eq!(reason(secure(), EDGE, other, None), "InvalidCertificateRef");
    let none = json!({});
    assert_eq!(reason(secure(), EDGE, none, None), "InvalidCertificateRef");
    let elsewhere = || Gateways {
        from: vec!["infra".to_owned()],
        ..secure()
    };
    let refs = || json!({"certificateRefs": [{"name": "cert", "namespace": "tundish-system"}]});
    assert_eq!(
        reason(elsewhere(), "infra/edge", refs(), None),
        "RefNotPermitted"
    );
    // Existing or not: whoever may not name it learns nothing.
    let missing = json!({"certificateRefs": [{"name": "no", "namespace": "tundish-system"}]});
    assert_eq!(
        reason(elsewhere(), "infra/edge", missing, None),
        "RefNotPermitted"
    );
    let mut permit = grant("tundish-system/g", "infra");
    permit["spec"]["from"] =
        json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}]);
    permit["spec"]["to"] = json!([{"group": "", "kind": "Secret", "name": "cert"}]);
    assert_eq!(
        reason(elsewhere(), "infra/edge", refs(), Some(permit)),
        "ResolvedRefs"
    );
}

#[test]
fn a_gateway_that_a_tenant_makes_hands_out_no_host() {
    let http = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    let verdict = judged(gateways(), [gateway("team-a/edge", &http)], "team-a/edge");
    assert_eq!(verdict.accepted.reason.as_str(), "Invalid");
    assert!(!verdict.accepted.holds);
    let allowed = Gateways {
        from: vec!["team-a".to_owned()],
        ..gateways()
    };
    let verdict = judged(allowed, [gateway("team-a/edge", &http)], "team-a/edge");
    assert!(verdict.accepted.holds, "{}", verdict.accepted.message);
}

#[test]
fn what_only_own_proxies_could_have_is_refused() {
    let mut asks = gateway(
        EDGE,
        &json!([{"name": "http", "port": 80, "protocol": "HTTP"}]),
    );
    asks["spec"]["addresses"] = json!([{"value": "10.0.0.1"}]);
    let verdict = judged(gateways(), [asks.clone()], EDGE);
    assert_eq!(verdict.accepted.reason.as_str(), "UnsupportedAddress");
    asks["spec"]["addresses"] = json!([]);
    asks["spec"]["infrastructure"] =
        json!({"parametersRef": {"group": "", "kind": "ConfigMap", "name": "x"}});
    let verdict = judged(gateways(), [asks], EDGE);
    assert_eq!(verdict.accepted.reason.as_str(), "InvalidParameters");
}

#[test]
fn gateways_of_another_class_or_controller_are_left_alone() {
    let mut other = gateway(
        EDGE,
        &json!([{"name": "http", "port": 80, "protocol": "HTTP"}]),
    );
    let ours = other.clone();
    other["spec"]["gatewayClassName"] = json!("envoy");
    assert!(
        compiled_with(gateways(), [other])
            .gateways
            .gateways
            .is_empty()
    );
    let mut foreign = gateways();
    foreign.class.as_mut().unwrap().controller_name = "example.com/other".to_owned();
    let verdicts = compiled_with(foreign, [ours]).gateways;
    assert_eq!(verdicts.class, None);
    assert!(verdicts.gateways.is_empty());
}

#[test]
fn the_class_is_accepted_with_a_version_that_is_known() {
    let reasons = |gateways: Gateways| {
        let class = compiled_with(gateways, []).gateways.class.clone().unwrap();
        assert_eq!(class.generation, 1);
        let words = class.conditions.iter();
        let words: Vec<String> = words
            .map(|one| format!("{}={} {}", one.condition, one.holds, one.reason))
            .collect();
        words.join(", ")
    };
    assert_eq!(
        reasons(gateways()),
        "Accepted=true Accepted, SupportedVersion=true SupportedVersion"
    );
    let mut strange = gateways();
    strange.bundle_version = Some("v2.0.0".to_owned());
    strange.class.as_mut().unwrap().has_parameters = true;
    assert_eq!(
        reasons(strange),
        "Accepted=false InvalidParameters, SupportedVersion=false UnsupportedVersion"
    );
}
