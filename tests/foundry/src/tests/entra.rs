use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Answer, DATED, V1, body, build, run, send, sim};
use crate::{
    AUDIENCE, App, Assignment, CLIENT, Directory, Fault, IDENTITY_HEADER, SECRET, SUBJECT, Sim,
    TENANT,
};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const SCOPE: &str = "https%3A%2F%2Fai.azure.com%2F.default";
const JWT_BEARER: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
const IMDS: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01";

fn endpoint() -> String {
    format!("/{TENANT}/oauth2/v2.0/token")
}

async fn ask(sim: &Sim, form: &str) -> Answer {
    send(sim, build("POST", &endpoint(), &[FORM], form)).await
}

fn by_secret(secret: &str) -> String {
    format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={secret}&scope={SCOPE}")
}

fn by_assertion(assertion: &str) -> String {
    format!(
        "grant_type=client_credentials&client_id={CLIENT}&client_assertion={assertion}\
         &client_assertion_type={JWT_BEARER}&scope={SCOPE}"
    )
}

async fn chat(sim: &Sim, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    send(
        sim,
        build("POST", path, &headers, &body(&json!({})).to_string()),
    )
    .await
}

fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

fn code(answer: &Answer) -> (u16, String, Value) {
    let json = answer.json();
    let error = json["error"].as_str().unwrap_or_default().to_owned();
    let number = json["error_codes"][0].clone();
    let description = json["error_description"].as_str().unwrap();
    assert!(
        description.starts_with(&format!("AADSTS{number}: ")),
        "{description}"
    );
    (answer.status.as_u16(), error, number)
}

#[test]
fn a_secret_and_an_assertion_buy_a_token_that_foundry_takes() {
    run(async {
        let sim = sim();
        let assertion = sim.projected_token(SUBJECT, AUDIENCE, Duration::from_secs(3600));
        for form in [by_secret(SECRET), by_assertion(&assertion)] {
            let answer = ask(&sim, &form).await;
            let json = answer.json();
            assert_eq!(
                (&json["token_type"], &json["expires_in"]),
                (&json!("Bearer"), &json!(3599))
            );
            for path in [V1, DATED] {
                assert_eq!(chat(&sim, path, &token(&answer)).await.status, 200);
            }
        }
        let expect = format!("entra-{CLIENT}");
        let last = sim.requests().pop().unwrap();
        assert_eq!(last.key.as_deref(), Some(expect.as_str()));
    });
}

#[test]
fn refuses_with_the_numbers_of_entra() {
    run(async {
        let sim = sim();
        let hour = Duration::from_secs(3600);
        let good = sim.projected_token(SUBJECT, AUDIENCE, hour);
        let (text, _) = good.rsplit_once('.').unwrap();
        let other_subject = sim.projected_token("system:serviceaccount:a:b", AUDIENCE, hour);
        let other_audience = sim.projected_token(SUBJECT, "api://other", hour);
        let expired = sim.projected_token(SUBJECT, AUDIENCE, Duration::ZERO);
        let cases = [
            (by_secret("wrong"), 401, "invalid_client", 7_000_215),
            (
                by_secret(SECRET).replace(CLIENT, "another"),
                400,
                "unauthorized_client",
                700_016,
            ),
            (
                by_secret(SECRET).replace("%2F.default", ""),
                400,
                "invalid_scope",
                1_002_012,
            ),
            (
                by_secret(SECRET).replace("ai.azure.com", "odd.example"),
                400,
                "invalid_resource",
                500_011,
            ),
            (
                by_secret(SECRET).replace("grant_type=client_credentials&", ""),
                400,
                "invalid_request",
                900_144,
            ),
            (
                by_secret(SECRET).replace("client_credentials", "password"),
                400,
                "unsupported_grant_type",
                70_003,
            ),
            (
                by_secret(SECRET) + "&client_id=x",
                400,
                "invalid_request",
                9_000_411,
            ),
            (by_assertion(&other_subject), 401, "invalid_client", 700_213),
            (
                by_assertion(&other_audience),
                401,
                "invalid_client",
                700_212,
            ),
            (by_assertion(&expired), 401, "invalid_client", 700_024),
            (
                by_assertion(&format!("{text}.forged")),
                401,
                "invalid_client",
                700_027,
            ),
            (by_assertion("nothing"), 400, "invalid_request", 50_027),
        ];
        for (form, status, error, number) in cases {
            let refused = ask(&sim, &form).await;
            let expect = (status, error.to_owned(), json!(number));
            assert_eq!(code(&refused), expect, "{form}");
        }
        let tenant = endpoint().replace(TENANT, "contoso.example");
        let refused = send(&sim, build("POST", &tenant, &[FORM], &by_secret(SECRET))).await;
        assert_eq!(code(&refused).2, 90_002);
        let no_form = send(&sim, build("POST", &endpoint(), &[], &by_secret(SECRET))).await;
        assert_eq!(code(&no_form).2, 900_144);
        let doubled = format!("/{}", endpoint());
        let refused = send(&sim, build("POST", &doubled, &[FORM], &by_secret(SECRET))).await;
        assert_ne!(refused.status, 200);
        assert_ne!(chat(&sim, V1, "eyJ.unknown.token").await.status, 200);
    });
}

#[test]
fn a_token_ends_by_its_time_its_audience_a_revocation_or_without_a_role() {
    run(async {
        let sim = sim();
        let good = token(&ask(&sim, &by_secret(SECRET)).await);
        let elsewhere = by_secret(SECRET).replace("ai.azure.com", "management.azure.com");
        let elsewhere = token(&ask(&sim, &elsewhere).await);
        let refused = chat(&sim, V1, &elsewhere).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["statusCode"]),
            (401, &json!(401))
        );
        sim.revoke_tokens();
        assert_eq!(chat(&sim, V1, &good).await.status, 401);
        let mut directory = Directory {
            lifetime_s: 0,
            ..Directory::default()
        };
        sim.directory(directory.clone());
        let expired = token(&ask(&sim, &by_secret(SECRET)).await);
        assert_eq!(chat(&sim, V1, &expired).await.status, 401);
        directory.lifetime_s = 60;
        directory.apps[0].without_role = true;
        sim.directory(directory);
        let without = token(&ask(&sim, &by_secret(SECRET)).await);
        let refused = chat(&sim, V1, &without).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.json()["error"]["code"], "PermissionDenied");
    });
}

#[test]
fn the_machine_hands_out_its_identity_and_keeps_the_token() {
    run(async {
        let sim = sim();
        let metadata = [("metadata", "true")];
        let path = format!("{IMDS}&resource=https%3A%2F%2Fai.azure.com");
        let first = send(&sim, build("GET", &path, &metadata, "")).await;
        let json = first.json();
        assert_eq!(json["expires_in"], "3599", "numbers are text");
        assert_eq!(chat(&sim, V1, &token(&first)).await.status, 200);
        let second = send(&sim, build("GET", &path, &metadata, "")).await;
        assert_eq!(token(&second), token(&first));
        let app_service = "/msi/token?api-version=2019-08-01&resource=https://ai.azure.com";
        let shown = [("x-identity-header", IDENTITY_HEADER)];
        let third = send(&sim, build("GET", app_service, &shown, "")).await;
        assert_eq!(token(&third), token(&first));
        assert_eq!(third.json()["expires_in"], Value::Null, "only expires_on");
        let refused = send(&sim, build("GET", app_service, &[], "")).await;
        assert_eq!(refused.status, 401);
    });
}

#[test]
fn the_machine_refuses_what_is_not_asked_by_its_rules() {
    run(async {
        let sim = sim();
        let metadata = ("metadata", "true");
        let path = format!("{IMDS}&resource=https://ai.azure.com");
        let forwarded = [metadata, ("x-forwarded-for", "10.0.0.1")];
        let other = format!("{path}&client_id=unknown");
        for (path, headers) in [
            (path.as_str(), &[][..]),
            (path.as_str(), &forwarded[..]),
            (IMDS, &[metadata][..]),
            (
                "/metadata/identity/oauth2/token?resource=x",
                &[metadata][..],
            ),
            (other.as_str(), &[metadata][..]),
        ] {
            let refused = send(&sim, build("GET", path, headers, "")).await;
            assert_eq!(refused.status, 400, "{path}");
            assert_eq!(refused.json()["error"], "invalid_request", "{path}");
        }
        let app = |client_id: &str| App {
            client_id: client_id.to_owned(),
            machine: Some(Assignment::User),
            ..App::default()
        };
        sim.directory(Directory {
            apps: vec![app("one"), app("two")],
            ..Directory::default()
        });
        let refused = send(&sim, build("GET", &path, &[metadata], "")).await;
        let text = &refused.json()["error_description"];
        assert!(text.as_str().unwrap().starts_with("Multiple user assigned"));
        let named = format!("{path}&client_id=two");
        token(&send(&sim, build("GET", &named, &[metadata], "")).await);
    });
}

#[test]
fn faults_of_entra_are_apart_from_those_of_the_resource() {
    run(async {
        let sim = sim();
        let fault = |operation: Option<&str>, status| Fault {
            operation: operation.map(str::to_owned),
            status: Some(status),
            times: Some(1),
            ..Fault::default()
        };
        sim.faults(vec![fault(None, 500)]).unwrap();
        token(&ask(&sim, &by_secret(SECRET)).await);
        sim.entra_faults(vec![fault(Some("Entra_Token"), 503)])
            .unwrap();
        assert_eq!(ask(&sim, &by_secret(SECRET)).await.status, 503);
        token(&ask(&sim, &by_secret(SECRET)).await);
        let asked = sim.requests();
        let asked = asked.iter().filter(|one| one.path == endpoint());
        assert_eq!(asked.count(), 3, "they are recorded");
    });
}
