use std::sync::Arc;

use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use operator_publish::tls::{Authorities, Certificates, StoredAuthorities};
use proxy_admin::clock;

use super::{CaError, CaKeeper, data, load_or_create_ca, read};
use crate::lease::keeper::Leadership;
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
    let bytes = |text: String| ByteString(text.into_bytes());
    let data = data(ca).into_iter().map(|(key, text)| (key, bytes(text)));
    Secret {
        data: Some(data.collect()),
        ..Secret::default()
    }
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

/// What the Secret on the fake server says.
fn in_secret(scenario: &Scenario) -> StoredAuthorities {
    let stored = scenario.stored.lock();
    let secret = stored.get(&format!("{SECRETS}/tundish-ca"));
    let secret: Secret =
        serde_json::from_value(secret.expect("it is stored").clone()).expect("it is a Secret");
    read(&secret, "gateway").expect("it is complete")
}

/// A real CA, and a leader that signs with it.
fn leader(scenario: &Scenario) -> (StoredAuthorities, CaKeeper) {
    let made = Authorities::generate(clock::now().unix_ms).expect("it is made");
    let signing = made.signing().expect("it is read");
    let names = vec!["localhost".to_owned()];
    let certificates =
        Certificates::new(signing, names, clock::now().unix_ms).expect("it is signed");
    let ours = made.store();
    let keeper = CaKeeper::new(
        scenario.client(),
        "gateway",
        Arc::new(certificates),
        ours.clone(),
    );
    (ours, keeper)
}

#[tokio::test]
async fn a_deleted_secret_is_stored_again_with_the_same_ca() {
    let scenario = Scenario::default()
        .storing(SECRETS)
        .storing("/api/v1/namespaces/gateway/configmaps");
    let (ours, mut keeper) = leader(&scenario);
    let (mut lead, leadership) = Leadership::for_tests();
    lead.lose();
    keeper.check(&leadership).await.expect("it is well");
    assert!(
        scenario.stored.lock().is_empty(),
        "a follower writes nothing"
    );
    lead.gain();
    keeper.check(&leadership).await.expect("it is well");
    assert_eq!(in_secret(&scenario), ours);
    let bundle = scenario.stored.lock();
    let bundle = &bundle["/api/v1/namespaces/gateway/configmaps/tundish-ca"]["data"]["ca.crt"];
    assert_eq!(bundle.as_str(), Some(ours.certificate.as_str()));
}

#[tokio::test]
async fn the_ca_of_the_leader_stays_when_another_operator_has_made_one() {
    let scenario = Scenario::default()
        .storing(SECRETS)
        .storing("/api/v1/namespaces/gateway/configmaps");
    let (ours, mut keeper) = leader(&scenario);
    let theirs = Authorities::generate(clock::now().unix_ms)
        .expect("it is made")
        .store();
    let client = scenario.client();
    let made = load_or_create_ca(&client, "gateway", || theirs.clone()).await;
    assert_eq!(made.expect("it is made"), theirs);
    let (_lead, leadership) = Leadership::for_tests();
    keeper.check(&leadership).await.expect("it is well");
    let stored = in_secret(&scenario);
    assert_eq!(
        (&stored.certificate, &stored.key),
        (&ours.certificate, &ours.key)
    );
    assert!(stored.bundle().contains(&theirs.certificate));
    // And that is all.
    let writes = scenario.calls(&Method::PUT).len();
    keeper.check(&leadership).await.expect("it is well");
    assert_eq!(scenario.calls(&Method::PUT).len(), writes);
    assert!(!stored.is_foreign_to(&theirs), "the other one takes it");
}
