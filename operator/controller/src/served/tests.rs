use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use serde_json::json;

use super::{Absence, served_version};
use crate::scenario::Scenario;

/// A cluster that serves the group in these versions, and in each `gateways`.
fn cluster(versions: &'static [&'static str]) -> Scenario {
    Scenario::default().rule(move |call| {
        let group = "gateway.networking.k8s.io";
        let path = call.path.strip_prefix("/apis/gateway.networking.k8s.io")?;
        let of = |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
        let page = match path.strip_prefix('/') {
            None if versions.is_empty() => return None,
            None => json!({"name": group, "versions": versions.iter().map(of).collect::<Vec<_>>()}),
            Some(version) => json!({
                "groupVersion": format!("{group}/{version}"),
                "resources": [{"name": "gateways", "kind": "Gateway", "namespaced": true,
                    "singularName": "", "verbs": ["list"]}],
            }),
        };
        Some((StatusCode::OK, page))
    })
}

#[tokio::test]
async fn a_kind_is_served_in_the_first_of_the_versions_that_has_it() {
    let check = async |versions: &'static [&'static str], plural: &str, expect: Option<&str>| {
        let client = cluster(versions).client();
        let found = served_version(&client, plural, &["v1", "v1beta1"]).await;
        assert_eq!(found.expect("the cluster answers"), expect, "{versions:?}");
    };
    check(&[], "gateways", None).await;
    check(&["v1alpha2"], "gateways", None).await;
    check(&["v1beta1"], "gateways", Some("v1beta1")).await;
    check(&["v1beta1", "v1"], "gateways", Some("v1")).await;
    check(&["v1"], "tlsroutes", None).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_starts_lacks_nothing_yet() {
    // It knows no group of a CustomResourceDefinition at first, then all.
    let looks = AtomicUsize::new(0);
    let scenario = Scenario::default().rule(move |call| {
        let is_ours = call.path == "/apis/tundish.dev";
        let is_up = looks.fetch_add(1, Ordering::Relaxed) >= 3;
        (is_ours && is_up).then(|| {
            (
                StatusCode::OK,
                json!({"name": "tundish.dev", "versions": []}),
            )
        })
    });
    let mut absence = Absence::default();
    let mut news = Vec::new();
    for _ in 0..7 {
        news.push(
            absence
                .is_news(&scenario.client())
                .await
                .expect("it answers"),
        );
    }
    assert_eq!(news, [false, false, false, false, true, false, false]);
}
