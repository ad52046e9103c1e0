use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const TENANT: &str = "72F988BF-86f1-41af-91ab-2d7cd011db47";
const OBJECT: &str = "11111111-2222-3333-4444-555555555555";
const APP: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

fn token(payload: &Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(payload.to_string());
    format!("eyJhbGciOiJSUzI1NiJ9.{payload}.c2ln")
}

#[test]
fn reads_the_object_else_the_application() {
    let read = |payload: Value| claims(&token(&payload));
    let of_user =
        read(json!({"tid": TENANT, "oid": OBJECT, "appid": APP, "exp": 7, "groups": [APP]}));
    let of_user = of_user.expect("claims");
    assert_eq!(of_user.tenant, TENANT.to_lowercase());
    assert_eq!(
        (of_user.principal.as_str(), of_user.expires),
        (OBJECT, Some(7))
    );
    // Version 2 names the application `azp`.
    let of_app = read(json!({"tid": TENANT, "azp": APP})).expect("claims");
    assert_eq!((of_app.principal.as_str(), of_app.expires), (APP, None));
    assert_eq!(
        read(json!({"tid": TENANT, "appid": APP}))
            .expect("claims")
            .principal,
        APP
    );
}

#[test]
fn what_is_no_such_token_claims_nothing() {
    for payload in [
        json!({}),
        json!([]),
        json!({"oid": OBJECT}),
        json!({"tid": TENANT}),
        json!({"tid": TENANT, "oid": "ann"}),
        json!({"tid": "tenant a/ann", "oid": OBJECT}),
        json!({"tid": TENANT, "oid": "11111111x2222-3333-4444-555555555555"}),
    ] {
        assert_eq!(claims(&token(&payload)), None, "{payload}");
    }
    let good = token(&json!({"tid": TENANT, "oid": OBJECT}));
    for text in [
        "",
        "key",
        "a.b.c",
        &good.replacen('.', "", 1),
        &format!("{good}.x"),
        &format!("{good}{}", "a".repeat(MAX_TOKEN)),
    ] {
        assert_eq!(claims(text), None);
    }
}

proptest! {
    #[test]
    fn any_text_is_judged(text in ".{0,200}", payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _nothing = claims(&text);
        let _nothing = claims(&format!("a.{}.b", URL_SAFE_NO_PAD.encode(payload)));
    }
}
