use bytes::Bytes;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{EndUser, UserMember, UserMembers};
use crate::api::{Call, find};
use crate::rows::ROWS;
use crate::splice::{Edit, splice};

const ID: &str = "0123456789abcdef0123456789abcdef";

fn call(path: &str) -> &'static Call {
    let found = find(ROWS, &Method::POST, path).expect("it is served");
    found.api.answer.call().expect("a backend answers")
}

/// The body that goes to a backend, with all members that the row has.
fn sent(path: &str, body: &str) -> String {
    let call = call(path);
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let scanned = call.scan(None, &bytes, true).expect("a good body");
    let edit = Edit {
        end_user: Some(EndUser {
            id: ID,
            added: call.users.iter().copied().collect(),
        }),
        ..Edit::default()
    };
    String::from_utf8(splice(&bytes, &scanned, edit).joined().to_vec()).expect("text")
}

fn check(path: &str, body: &str, expect: &str) {
    assert_eq!(sent(path, body), expect.replace("ID", ID), "{path}");
}

#[test]
fn names_the_end_user_in_the_members_of_each_api() {
    let both = r#"{"user":"ID","safety_identifier":"ID","input":"x"}"#;
    check("/v1/responses", r#"{"input":"x"}"#, both);
    let both = r#"{"user":"ID","safety_identifier":"ID"}"#;
    check("/v1/chat/completions", "{}", both);
    for path in [
        "/v1/completions",
        "/v1/embeddings",
        "/v1/images/generations",
    ] {
        check(path, r#"{"n":1}"#, r#"{"user":"ID","n":1}"#);
    }
    let message = r#"{"metadata":{"user_id":"ID"},"max_tokens":5}"#;
    check("/v1/messages", r#"{"max_tokens":5}"#, message);
}

#[test]
fn what_the_client_names_is_replaced_whatever_it_is() {
    check(
        "/v1/chat/completions",
        r#"{"user":"bob","n":1,"safety_identifier":null}"#,
        r#"{"user":"ID","n":1,"safety_identifier":"ID"}"#,
    );
    for (metadata, expect) in [
        (r#"{"user_id":"bob"}"#, r#"{"user_id":"ID"}"#),
        (r#"{"x":{},"user_id":null}"#, r#"{"x":{},"user_id":"ID"}"#),
        (r#"{"x":1}"#, r#"{"user_id":"ID","x":1}"#),
        (r"{ }", r#"{"user_id":"ID" }"#),
        ("null", r#"{"user_id":"ID"}"#),
        ("7", r#"{"user_id":"ID"}"#),
    ] {
        let body = |metadata: &str| format!(r#"{{"max_tokens":5,"metadata":{metadata}}}"#);
        check("/v1/messages", &body(metadata), &body(expect));
    }
}

#[test]
fn what_an_api_does_not_know_is_not_added() {
    for path in [
        "/v1/audio/speech",
        "/v1/moderations",
        "/v1/responses/compact",
        "/v1/responses/input_tokens",
        "/v1/messages/count_tokens",
    ] {
        check(path, r#"{"input":"x"}"#, r#"{"input":"x"}"#);
    }
    // Of a chat it is the client's own.
    let chat = sent("/v1/chat/completions", r#"{"metadata":{"user_id":"bob"}}"#);
    assert!(chat.contains(r#""metadata":{"user_id":"bob"}"#), "{chat}");
}

#[test]
fn a_second_name_is_refused() {
    for (path, body) in [
        ("/v1/chat/completions", r#"{"user":"a","user":"b"}"#),
        ("/v1/chat/completions", r#"{"User":"a"}"#),
        (
            "/v1/messages",
            r#"{"metadata":{"user_id":"a","user_id":"b"}}"#,
        ),
        ("/v1/messages", r#"{"metadata":{"USER_ID":"a"}}"#),
    ] {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        call(path).scan(None, &bytes, true).expect_err(body);
    }
}

#[test]
fn a_set_has_what_was_put_into_it() {
    let members = UserMembers::default().with(UserMember::SafetyIdentifier);
    assert!(members.has(UserMember::SafetyIdentifier));
    assert!(!members.has(UserMember::User) && !members.has(UserMember::Metadata));
}

proptest! {
    #[test]
    fn whatever_the_body_is_it_names_this_end_user_and_keeps_the_rest(
        user in prop::option::of(prop::sample::select(vec![json!("bob"), json!(null), json!({"a": 1})])),
        metadata in prop::option::of(prop::sample::select(vec![
            json!({}), json!(null), json!({"user_id": "bob"}), json!({"other": [1]}),
        ])),
        first: bool,
    ) {
        for (path, pointer) in [("/v1/chat/completions", "/user"), ("/v1/messages", "/metadata/user_id")] {
            let mut body = json!({"model": "m", "messages": []});
            if first {
                body = json!({});
            }
            if let Some(user) = &user {
                body["user"] = user.clone();
            }
            if let Some(metadata) = &metadata {
                body["metadata"] = metadata.clone();
            }
            let sent: Value = serde_json::from_str(&sent(path, &body.to_string())).expect("JSON");
            prop_assert_eq!(sent.pointer(pointer), Some(&json!(ID)));
            for rest in ["/model", "/messages", "/metadata/other"] {
                prop_assert_eq!(sent.pointer(rest), body.pointer(rest));
            }
        }
    }
}
