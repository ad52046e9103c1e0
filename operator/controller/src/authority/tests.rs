use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{CaError, CaPem, load_or_create_ca};
use crate::scenario::Scenario;

const SECRETS: &str = "/api/v1/namespaces/gateway/secrets";

fn pem(name: &str) -> CaPem {
    CaPem {
        certificate: format!("certificate of {name}\n"),
        key: format!("key of {name}\n"),
        ..CaPem::default()
    }
}

#[tokio::test]
async fn the_first_operator_makes_the_ca_and_the_next_one_loads_it() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    let first = load_or_create_ca(&client, "gateway", || pem("first")).await;
    let second = load_or_create_ca(&client, "gateway", || panic!("there is one")).await;
    assert_eq!(first.expect("it is made"), pem("first"));
    assert_eq!(second.expect("it is there"), pem("first"));
}

/// The Secret as the API server gives it back.
fn stored(ca: &CaPem) -> Secret {
    let mut secret = ca.secret("gateway", None);
    let text = secret.string_data.take().expect("it is written as text");
    let bytes = |text: String| ByteString(text.into_bytes());
    let data = text.into_iter().map(|(key, text)| (key, bytes(text)));
    secret.data = Some(data.collect());
    secret
}

#[tokio::test]
async fn an_operator_that_comes_second_in_a_race_takes_the_first_ones_ca() {
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
async fn a_secret_without_a_key_is_left_alone_and_named() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    let without = CaPem {
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
fn the_bundle_has_every_certificate_and_no_key() {
    let ca = CaPem {
        next: Some(("next certificate\n".to_owned(), "next key\n".to_owned())),
        former: "former certificate\n".to_owned(),
        ..pem("now")
    };
    assert_eq!(
        ca.bundle(),
        "certificate of now\nnext certificate\nformer certificate\n"
    );
    assert_eq!(format!("{ca:?}"), "CaPem { .. }");
}

#[test]
fn a_successor_survives_being_stored() {
    let ca = CaPem {
        next: Some(("next certificate\n".to_owned(), "next key\n".to_owned())),
        former: "former certificate\n".to_owned(),
        ..pem("now")
    };
    assert_eq!(
        CaPem::read(&stored(&ca), "gateway").expect("it is complete"),
        ca
    );
}
