use std::fs;

use expect_test::{Expect, expect};

use super::super::Folder;

const OTHERS: &str = "\
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim, namespace: a}
spec:
  type: Foundry
  endpoint: https://sim.example
  auth: {type: PassThrough}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat, namespace: a}
spec:
  hostnames: [ai.example.com]
  authentication: {passThrough: {}}
  rules: [{name: all, backendRefs: [{name: sim, deployment: gpt-4o}]}]
  parentRefs:
  - ";

const CLASS: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: tundish.dev/gateway-controller}
";

/// A Gateway with this spec.
fn gateway(spec: &str) -> String {
    format!(
        "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: gw}}\nspec: {spec}\n"
    )
}

/// The findings of a folder with a route that has this parent, and these documents.
fn check(parent: &str, documents: &str, expect: &Expect) {
    let dir = tempfile::tempdir().expect("a folder");
    let text = format!("{OTHERS}{parent}\n{documents}");
    fs::write(dir.path().join("a.yaml"), text).expect("written");
    let mut folder = Folder::new(dir.path(), "gw", Vec::new()).with_gateways_of_the_folder();
    folder.refresh().expect("a folder");
    let findings = folder.compile().findings;
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    expect.assert_eq(&lines.join("\n"));
}

#[test]
fn a_gateway_that_the_folder_lacks_is_a_warning() {
    let unknown = expect![
        "a.yaml:18: warning: AIRoute a/chat: spec.parentRefs[0]: Gateway gw/edge is not in the folder, or its class is not: the cluster says whether it takes AIRoutes of namespace a"
    ];
    check("{name: edge, namespace: gw}", "", &unknown);
    check(
        "{name: edge, namespace: gw, sectionName: web}",
        "",
        &expect![
            "a.yaml:18: warning: AIRoute a/chat: spec.parentRefs[0]: Gateway gw/edge is not in the folder, or its class is not: the cluster says whether it takes AIRoutes of namespace a"
        ],
    );
    // Its class may be any controller's.
    let other =
        gateway("{gatewayClassName: nginx, listeners: [{name: web, port: 80, protocol: HTTP}]}");
    check("{name: edge, namespace: gw}", &other, &unknown);
}

#[test]
fn a_gateway_of_the_folder_is_judged_by_its_listeners() {
    let edge = |listener: &str| {
        let spec = format!(
            "{{gatewayClassName: ours, listeners: [{{name: web, port: 443, protocol: HTTPS, {listener}}}]}}"
        );
        gateway(&spec) + CLASS
    };
    let named = "{name: edge, namespace: gw}";
    check(
        named,
        &edge(
            "allowedRoutes: {namespaces: {from: All}, kinds: [{group: tundish.dev, kind: AIRoute}]}",
        ),
        &expect![],
    );
    check(
        named,
        &edge("hostname: ai.example.com"),
        &expect![
            "a.yaml:18: error: AIRoute a/chat: spec.parentRefs[0]: Gateway gw/edge allows no AIRoutes of namespace a there (allowedRoutes); ask its owner, or name another"
        ],
    );
    let all = "hostname: other.example.com, allowedRoutes: {namespaces: {from: All}}";
    check(
        named,
        &edge(all),
        &expect![
            "a.yaml:18: error: AIRoute a/chat: spec.parentRefs[0]: none of spec.hostnames is a host of Gateway gw/edge there; correct one of the two"
        ],
    );
    check(
        "{name: edge, namespace: gw, sectionName: api}",
        &edge(all),
        &expect![[
            r#"a.yaml:18: error: AIRoute a/chat: spec.parentRefs[0]: Gateway gw/edge has no listener "api"; correct sectionName"#
        ]],
    );
    let nginx = gateway("{gatewayClassName: nginx, listeners: []}")
        + &CLASS
            .replace("tundish.dev/", "nginx.org/")
            .replace("ours", "nginx");
    check(
        named,
        &nginx,
        &expect![
            "a.yaml:18: error: AIRoute a/chat: spec.parentRefs[0]: Gateway gw/edge is not of the class tundish, or there is no such GatewayClass of this controller; name another"
        ],
    );
}

#[test]
fn labels_of_a_namespace_are_those_of_the_folder() {
    let named = "{name: edge, namespace: gw}";
    let selecting = "{gatewayClassName: tundish, listeners: [{name: web, port: 80, protocol: HTTP, \
                     allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: x}}}}}]}";
    check(
        named,
        &gateway(selecting),
        &expect![
            "a.yaml:18: warning: AIRoute a/chat: spec.parentRefs[0]: Gateway gw/edge selects namespaces by labels, and Namespace a is not in the folder: the cluster says whether it takes its AIRoutes"
        ],
    );
    let namespace = |team: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a, labels: {{team: {team}}}}}\n"
        )
    };
    let with = |team: &str| gateway(selecting) + &namespace(team);
    check(named, &with("x"), &expect![]);
    check(
        named,
        &with("y"),
        &expect![
            "a.yaml:18: error: AIRoute a/chat: spec.parentRefs[0]: Gateway gw/edge allows no AIRoutes of namespace a there (allowedRoutes); ask its owner, or name another"
        ],
    );
}
