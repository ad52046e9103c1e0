use std::time::Duration;

use proptest::prelude::*;

use super::{refusal, token};

fn lives(body: &str) -> Result<u64, &'static str> {
    token(body.as_bytes(), 1_000).map(|token| {
        assert_eq!(token.secret.expose(), "eyJ.t");
        token.lives.as_secs()
    })
}

#[test]
fn the_life_of_a_token_is_read_in_every_form() {
    for (body, expect) in [
        (r#"{"access_token":"eyJ.t","expires_in":3599}"#, Ok(3599)),
        (
            r#"{"access_token":"eyJ.t","expires_in":"3599","expires_on":"9"}"#,
            Ok(3599),
        ),
        (r#"{"access_token":"eyJ.t","expires_on":"1060"}"#, Ok(60)),
        (r#"{"access_token":"eyJ.t","expires_on":1060}"#, Ok(60)),
        (
            r#"{"access_token":"eyJ.t","expires_in":99999999}"#,
            Ok(604_800),
        ),
        (
            r#"{"access_token":"eyJ.t","expires_on":"900"}"#,
            Err("the token has ended already"),
        ),
        (
            r#"{"access_token":"eyJ.t","expires_on":"soon"}"#,
            Err("it does not say when the token ends"),
        ),
        (
            r#"{"access_token":"","expires_in":5}"#,
            Err("the token is empty"),
        ),
        ("<html>", Err("it is no token")),
    ] {
        assert_eq!(lives(body), expect, "{body}");
    }
}

#[test]
fn a_refusal_has_the_number_of_entra_and_not_its_ids() {
    let body = r#"{"error":"invalid_client","error_description":
        "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1 Correlation ID: 2",
        "error_codes":[7000215]}"#;
    let refused = refusal(body.replace("\n       ", "").as_bytes(), "");
    assert_eq!(refused.number, Some(7_000_215));
    assert_eq!(
        refused.description,
        "AADSTS7000215: Invalid client secret provided."
    );
    let without_list = r#"{"error":"invalid_request","error_description":"AADSTS70021: No"}"#;
    assert_eq!(refusal(without_list.as_bytes(), "").number, Some(70_021));
    let machine = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    let machine = refusal(machine.as_bytes(), "");
    assert_eq!(
        (machine.number, machine.description.as_str()),
        (None, "Identity not found")
    );
    let app_service = refusal(br#"{"statusCode":400,"message":"No managed identity"}"#, "");
    assert_eq!(app_service.description, "No managed identity");
    assert_eq!(refusal(b"<html>", "").description, "");
}

#[test]
fn no_description_repeats_a_secret() {
    let said = "AADSTS7000215: Invalid client secret 's3cr3t' (s3cr3t), assertion 'eyJhbGciOiJub25lIn0.e30.c2ln'.";
    let body = serde_json::json!({"error_description": said}).to_string();
    let description = refusal(body.as_bytes(), "s3cr3t").description;
    assert_eq!(
        description,
        "AADSTS7000215: Invalid client secret '(the secret)' ((the secret)), assertion (a token)"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer(body: Vec<u8>, now: u64) {
        if let Ok(token) = token(&body, now) {
            prop_assert!(token.lives > Duration::ZERO);
        }
        prop_assert!(!refusal(&body, "").description.contains('\n'));
    }

    #[test]
    fn a_description_is_one_bounded_line(text in "\\PC{0,2000}|(AADSTS[0-9]{1,12}[\r\n].*)") {
        let body = serde_json::json!({"error_description": text}).to_string();
        let refused = refusal(body.as_bytes(), "");
        prop_assert!(refused.description.chars().count() <= 400);
        prop_assert!(!refused.description.chars().any(char::is_control));
    }
}
