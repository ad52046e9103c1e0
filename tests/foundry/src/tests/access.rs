use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};

use super::client::{Answer, V1, body, build, run, send, sim};
use crate::{
    API, API_URI, AccessToken, Api, CLIENT, Directory, Fault, Rotation, SECRET, Sim, TENANT,
};

async fn get(sim: &Sim, path: &str) -> Answer {
    send(sim, build("GET", path, &[], "")).await
}

/// What a token's issuer publishes, found as any provider's is.
async fn keys(sim: &Sim, issuer: &str) -> JwkSet {
    let issuer = issuer.strip_prefix(&sim.url()).unwrap();
    let path = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let described = get(sim, &path).await;
    assert_eq!(described.status, 200, "{}", described.text);
    assert_eq!(described.json()["issuer"], format!("{}{issuer}", sim.url()));
    let keys = described.json()["jwks_uri"].as_str().unwrap().to_owned();
    let listed = get(sim, keys.strip_prefix(&sim.url()).unwrap()).await;
    assert_eq!(listed.header("cache-control"), "max-age=86400, private");
    serde_json::from_value(listed.json()).unwrap()
}

/// The claims of a token, if a listed key proves it.
async fn proved(sim: &Sim, token: &str, version: u8) -> Option<Value> {
    let header = decode_header(token).unwrap();
    assert_eq!(header.alg, Algorithm::RS256);
    assert_eq!(
        header.x5t.is_some(),
        version == 1,
        "version 1 says it twice"
    );
    let set = keys(sim, &sim.issuer(version)).await;
    let key = set.find(&header.kid.unwrap())?;
    assert!(key.common.key_algorithm.is_none(), "Entra lists none");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(key).unwrap();
    Some(decode::<Value>(token, &key, &validation).unwrap().claims)
}

fn made(sim: &Sim, wanted: Value) -> String {
    let wanted: AccessToken = serde_json::from_value(wanted).unwrap();
    sim.access_token(&wanted).unwrap()
}

#[test]
fn each_version_has_its_issuer_and_its_names_of_claims() {
    run(async {
        let sim = sim();
        let user = json!({"user": "ann", "scopes": ["chat", "embed"], "groups": ["g1"]});
        let two = proved(&sim, &made(&sim, user.clone()), 2).await.unwrap();
        assert_eq!(two["iss"], format!("{}/{TENANT}/v2.0", sim.url()));
        assert_eq!((&two["aud"], &two["azp"]), (&json!(API), &json!(CLIENT)));
        assert_eq!(
            (&two["scp"], &two["oid"]),
            (&json!("chat embed"), &json!("ann"))
        );
        assert_eq!(
            (&two["groups"], &two["appid"]),
            (&json!(["g1"]), &Value::Null)
        );
        assert_ne!(two["sub"], two["oid"]);
        let mut one = user;
        one["version"] = json!(1);
        let one = proved(&sim, &made(&sim, one), 1).await.unwrap();
        assert_eq!(one["iss"], format!("{}/{TENANT}/", sim.url()));
        assert_eq!(
            (&one["aud"], &one["appid"]),
            (&json!(API_URI), &json!(CLIENT))
        );
        assert_eq!(
            (&one["upn"], &one["azp"]),
            (&json!("ann@contoso.example"), &Value::Null)
        );
    });
}

#[test]
fn an_app_gets_a_token_with_its_roles_for_an_api() {
    run(async {
        let sim = sim();
        let api = Api {
            client_id: API.to_owned(),
            uri: API_URI.to_owned(),
            token_version: 1,
            roles: vec!["Models.Call".to_owned()],
        };
        sim.directory(Directory {
            apis: vec![api],
            ..Directory::default()
        });
        let form = ("content-type", "application/x-www-form-urlencoded");
        let text = format!(
            "grant_type=client_credentials&client_id={CLIENT}&client_secret={SECRET}&scope={API_URI}/.default"
        );
        let path = format!("/{TENANT}/oauth2/v2.0/token");
        let bought = send(&sim, build("POST", &path, &[form], &text)).await;
        let token = bought.json()["access_token"].as_str().unwrap().to_owned();
        let claims = proved(&sim, &token, 1).await.unwrap();
        assert_eq!(
            (&claims["roles"], &claims["scp"]),
            (&json!(["Models.Call"]), &Value::Null)
        );
        assert_eq!(claims["sub"], claims["oid"]);
        let bearer = format!("Bearer {token}");
        let shown = [("authorization", bearer.as_str())];
        let body = body(&json!({})).to_string();
        let refused = send(&sim, build("POST", V1, &shown, &body)).await;
        assert_eq!(refused.status, 401, "Foundry is another audience");
    });
}

#[test]
fn makes_what_is_asked_for_and_nothing_that_entra_would_not() {
    run(async {
        let sim = sim();
        let groups: Vec<String> = (0..201).map(|number| format!("g{number}")).collect();
        let wanted = json!({
            "groups": groups, "lifetime_s": -5, "claims": {"team": "search", "rh": null},
        });
        let claims = proved(&sim, &made(&sim, wanted), 2).await.unwrap();
        assert_eq!(claims["_claim_names"]["groups"], "src1");
        assert_eq!(
            (&claims["groups"], &claims["rh"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(claims["team"], "search");
        assert!(claims["exp"].as_i64() < claims["iat"].as_i64());
        for wrong in [
            json!({"resource": "api://other"}),
            json!({"version": 3}),
            json!({"resource": "https://ai.azure.com", "version": 2}),
            json!({"user": "ann"}),
            json!({"scopes": ["chat"]}),
        ] {
            let refused = send(&sim, build("POST", "/_sim/tokens", &[], &wrong.to_string())).await;
            assert_eq!(refused.status, 400, "{wrong}");
        }
        let foundry = made(
            &sim,
            json!({"resource": "https://ai.azure.com", "user": "ann", "scopes": ["all"]}),
        );
        let bearer = format!("Bearer {foundry}");
        let body = body(&json!({})).to_string();
        let served = send(
            &sim,
            build("POST", V1, &[("authorization", &bearer)], &body),
        )
        .await;
        assert_eq!(served.status, 200);
    });
}

#[test]
fn a_new_key_signs_and_the_old_one_is_listed_or_not() {
    run(async {
        let sim = sim();
        let before: Vec<_> = keys(&sim, &sim.issuer(2)).await.keys;
        assert_eq!(before.len(), 3);
        let listed = |token: String| {
            let kid = decode_header(token).unwrap().kid;
            before.iter().any(|key| key.common.key_id == kid)
        };
        let old = made(&sim, json!({}));
        sim.rotate_keys(Rotation {
            announced: true,
            keeps_old: true,
        })
        .unwrap();
        let announced = made(&sim, json!({}));
        assert!(listed(announced.clone()));
        assert!(proved(&sim, &old, 2).await.is_some());
        let done = send(&sim, build("POST", "/_sim/rotations", &[], "{}")).await;
        assert_eq!(done.status, 204);
        let sudden = made(&sim, json!({}));
        assert!(!listed(sudden.clone()));
        assert!(proved(&sim, &sudden, 2).await.is_some());
        assert!(proved(&sim, &announced, 2).await.is_none());
    });
}

#[test]
fn keys_can_be_away_while_tokens_are_made() {
    run(async {
        let sim = sim();
        let path = format!("/{TENANT}/discovery/v2.0/keys");
        let fault = |operation: &str| Fault {
            operation: Some(operation.to_owned()),
            status: Some(503),
            ..Fault::default()
        };
        sim.entra_faults(vec![fault("Entra_Keys")]).unwrap();
        assert_eq!(get(&sim, &path).await.status, 503);
        made(&sim, json!({}));
        sim.entra_faults(Vec::new()).unwrap();
        assert_eq!(get(&sim, &path).await.status, 200);
        let asked = sim.requests();
        assert_eq!(asked.iter().filter(|one| one.path == path).count(), 2);
        let other = get(&sim, "/contoso.example/discovery/v2.0/keys").await;
        assert_eq!(other.status, 400);
        assert_eq!(send(&sim, build("POST", &path, &[], "")).await.status, 405);
    });
}
