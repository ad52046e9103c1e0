use http::StatusCode;
use proxy_admin::shutdown;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{ABSENT, Absence, GatewayWatch, SERVED_CHECK};
use crate::config::GatewayConfig;
use crate::scenario::{Call, Scenario, refusal};
use crate::watch::Update;

/// A cluster with a class, a Gateway that selects namespaces, one namespace and no Service. Watches never end.
fn cluster(installed: bool) -> Scenario {
    Scenario::default().hanging_watches().rule(move |call| {
        if !installed && call.path.contains("gateway.networking.k8s.io") {
            return Some(refusal(StatusCode::NOT_FOUND, "NotFound"));
        }
        page(call).map(|page| (StatusCode::OK, page))
    })
}

fn page(call: &Call) -> Option<Value> {
    let list = |items: Value| Some(json!({"metadata": {"resourceVersion": "95"}, "items": items}));
    let kind = |name: &str| json!({"name": name, "kind": "K", "namespaced": true, "singularName": "", "verbs": []});
    let metadata = |namespace: &str, name: &str| {
        json!({"name": name, "namespace": namespace, "resourceVersion": "70", "labels": {"ai": "yes"},
            "annotations": {"gateway.networking.k8s.io/bundle-version": "v1.6.3"}})
    };
    match call.path.as_str() {
        "/apis/gateway.networking.k8s.io" => Some(json!({
            "name": "gateway.networking.k8s.io",
            "versions": [{"groupVersion": "gateway.networking.k8s.io/v1", "version": "v1"}],
        })),
        "/apis/gateway.networking.k8s.io/v1" => Some(
            json!({"groupVersion": "gateway.networking.k8s.io/v1", "resources": [kind("gateways")]}),
        ),
        path if path.ends_with("/gatewayclasses") => {
            assert!(
                call.query.contains("metadata.name%3Dtundish"),
                "{}",
                call.query
            );
            list(
                json!([{"metadata": {"name": "tundish", "resourceVersion": "60"},
                "spec": {"controllerName": "tundish.dev/gateway-controller"}}]),
            )
        }
        path if path.ends_with("/gateways") => list(json!([{
            "metadata": metadata("gateway", "edge"),
            "spec": {"gatewayClassName": "tundish", "listeners": [{"name": "web", "port": 80,
                "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "Selector"}}}]},
        }])),
        "/api/v1/namespaces" => list(json!([{"metadata": metadata("", "team")}])),
        path if path.ends_with("/services") => list(json!([])),
        path if path.contains("customresourcedefinitions") => {
            Some(json!({"metadata": metadata("", "gatewayclasses")}))
        }
        _ => None,
    }
}

async fn first(installed: bool) -> Update {
    let (updates, mut received) = mpsc::channel(4);
    let (stored, _) = watch::channel(None);
    let watch = GatewayWatch {
        client: cluster(installed).client(),
        config: GatewayConfig {
            class: "tundish".to_owned(),
            service: Some("proxies".to_owned()),
            ..GatewayConfig::default()
        },
        own_namespace: "gateway".to_owned(),
        updates,
        stored,
    };
    let (_trigger, shutdown) = shutdown::channel();
    proxy_admin::task::spawn("watch Gateways", watch.run(shutdown));
    received.recv().await.expect("a report")
}

#[tokio::test]
async fn the_first_report_has_everything() {
    let Update::Gateways {
        gateways: Some(gateways),
        version,
    } = first(true).await
    else {
        panic!("there are Gateways");
    };
    assert_eq!(version, 70);
    assert!(gateways.class.is_some());
    assert_eq!(gateways.gateways.len(), 1);
    assert_eq!(gateways.namespaces["team"]["ai"], "yes");
    assert_eq!(gateways.ports, None, "the Service is not there");
    assert_eq!(gateways.bundle_version.as_deref(), Some("v1.6.3"));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_gateway_api_has_no_gateways() {
    let update = first(false).await;
    let none = Update::Gateways {
        gateways: None,
        version: 0,
    };
    assert_eq!(format!("{update:?}"), format!("{none:?}"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_for_a_moment_is_not_gone() {
    let mut absence = Absence::default();
    let start = Instant::now();
    assert!(!absence.is_news(start));
    assert!(!absence.is_news(start + SERVED_CHECK));
    assert!(absence.is_news(start + ABSENT));
    assert!(
        !absence.is_news(start + ABSENT + SERVED_CHECK),
        "it was reported"
    );
}
