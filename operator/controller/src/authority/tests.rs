use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use operator_publish::tls::StoredAuthorities;

use super::{CaError, load_or_create_ca, metadata, read, secret};
use crate::scenario::Scenario;

const SECRETS: &str = "/api/v1/namespaces/gateway/secrets";

fn pem(name: &str) -> StoredAuthorities {
    StoredAuthorities {
        certificate: format!("certificate of {name}\n"),
        key: format!("key of {name}\n"),
        ..StoredAuthorities::default()
    }
}

#[tokio::test]
async fn the_first_operator_makes_the_ca_and_the_next_loads_it() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    let first = load_or_create_ca(&client, "gateway", || pem("first")).await;
    let second = load_or_create_ca(&client, "gateway", || panic!("there is one")).await;
    assert_eq!(first.expect("it is made"), pem("first"));
    assert_eq!(second.expect("it is there"), pem("first"));
}

/// The Secret as the API server gives it back.
fn stored(ca: &StoredAuthorities) -> Secret {
    let mut secret = secret(ca, metadata("gateway"));
    let text = secret.string_data.take().expect("it is written as text");
    let bytes = |text: String| ByteString(text.into_bytes());
    let data = text.into_iter().map(|(key, text)| (key, bytes(text)));
    secret.data = Some(data.collect());
    secret
}

#[tokio::test]
async fn the_loser_of_a_race_takes_the_ca_of_the_winner() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    let theirs = load_or_create_ca(&client, "gateway", || {
        // The other one stores its own between the look and the write.
        let first = serde_json::to_value(stored(&pem("first"))).expect("it is JSON");
        let path = format!("{SECRETS}/tundish-ca");
        scenario.stored.lock().insert(path, first);
        pem("second")
    });
    assert_eq!(theirs.await.expect("it is there"), pem("first"));
}

#[tokio::test]
async fn the_empty_secret_of_the_chart_is_filled_and_stays_the_charts() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    let path = format!("{SECRETS}/tundish-ca");
    let annotations = serde_json::json!({"meta.helm.sh/release-name": "tundish"});
    let made_by_chart = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tundish-ca", "namespace": "gateway", "resourceVersion": "1", "annotations": annotations},
    });
    scenario.stored.lock().insert(path.clone(), made_by_chart);
    let made = load_or_create_ca(&client, "gateway", || pem("first")).await;
    assert_eq!(made.expect("it is filled"), pem("first"));
    assert_eq!(scenario.calls(&Method::POST).len(), 0, "it needs no create");
    let filled = scenario.stored.lock().get(&path).cloned();
    let filled = filled.expect("it is there");
    assert_eq!(filled["metadata"]["annotations"], annotations);
    assert_eq!(filled["stringData"]["ca.key"], pem("first").key);
}

#[tokio::test]
async fn a_secret_without_a_key_is_reported_and_left_as_it_is() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    let without = StoredAuthorities {
        key: String::new(),
        ..pem("broken")
    };
    load_or_create_ca(&client, "gateway", || without)
        .await
        .expect("the fake server takes it");
    let error = load_or_create_ca(&client, "gateway", || pem("new")).await;
    assert!(
        matches!(
            error,
            Err(CaError::Incomplete {
                field: "ca.key",
                ..
            })
        ),
        "{error:?}"
    );
    assert_eq!(scenario.calls(&Method::POST).len(), 1);
}

#[test]
fn a_successor_is_read_as_it_was_stored() {
    let ca = StoredAuthorities {
        next: Some(("next certificate\n".to_owned(), "next key\n".to_owned())),
        former: "former certificate\n".to_owned(),
        ..pem("now")
    };
    assert_eq!(read(&stored(&ca), "gateway").expect("it is complete"), ca);
}
