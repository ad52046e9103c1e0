use bytes::Bytes;

use super::{Edit, splice};
use crate::api::Answer;
use crate::body::{Body, BoundName, Member};
use crate::end_user::{EndUser, UserMembers};
use crate::rows::ROWS;
use crate::{multipart, scan};

fn scanned(body: &str) -> Body {
    let Answer::Backend(chat) = &ROWS[0].answer else {
        panic!("the first row is chat")
    };
    scan::body(body.as_bytes(), chat.members, false).expect("a good body")
}

fn check(body: &str, model_in_body: bool, takes_stream_options: bool, expect: &str) {
    let edit = Edit {
        model: model_in_body.then_some("d\"1"),
        usage: takes_stream_options,
        ..Edit::default()
    };
    let sent = splice(
        &Bytes::copy_from_slice(body.as_bytes()),
        &scanned(body),
        edit,
    )
    .joined();
    let sent = std::str::from_utf8(&sent).expect("text");
    assert_eq!(sent, expect);
    scanned(sent);
}

#[test]
fn edits_the_model_and_nothing_else() {
    check(
        r#"{ "a":1.0, "model" : "m","z":[1e9] }"#,
        true,
        true,
        r#"{ "a":1.0, "model" : "d\"1","z":[1e9] }"#,
    );
    check(r#"{"model":"m"}"#, false, true, r#"{"model":"m"}"#);
    check(r#"{"a":1}"#, true, true, r#"{"model":"d\"1","a":1}"#);
    check("{}", true, true, r#"{"model":"d\"1"}"#);
}

#[test]
fn asks_for_usage_in_every_form_of_stream_options() {
    for (options, expect) in [
        (
            "",
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#","stream_options":null"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#","stream_options":{}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#","stream_options":{"x":1}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#","stream_options":{"include_usage":false}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#","stream_options":{"include_usage":true}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        check(
            &format!("{{\"stream\":true{options}}}"),
            false,
            true,
            expect,
        );
    }
    check(r#"{"stream":true}"#, false, false, r#"{"stream":true}"#);
    check(r#"{"stream":false}"#, false, true, r#"{"stream":false}"#);
    check(
        r#"{"stream":true}"#,
        true,
        true,
        r#"{"model":"d\"1","stream_options":{"include_usage":true},"stream":true}"#,
    );
}

#[test]
fn a_form_gets_its_model_replaced_or_inserted() {
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let members = &[("model", Member::Model)];
    let edited = |text: &str, model| {
        let body = multipart::body(text.as_bytes(), "b", members, false).expect("a form");
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let edit = Edit {
            model,
            usage: true,
            ..Edit::default()
        };
        let sent = splice(&bytes, &body, edit).joined();
        String::from_utf8(sent.to_vec()).expect("text")
    };
    let end = "--b--\r\n";
    let file = part("file", "sound");
    let named = [part("model", "m"), file.clone()].concat() + end;
    let expect = [part("model", "whisper"), file.clone()].concat() + end;
    assert_eq!(edited(&named, Some("whisper")), expect);
    assert_eq!(edited(&(file + end), Some("whisper")), expect);
    assert_eq!(edited(&named, None), named);
}

#[test]
fn a_bound_is_lowered_replaced_or_inserted() {
    let edited = |text: &str, default, max| {
        let edit = Edit {
            default_bound: default,
            max_bound: max,
            ..Edit::default()
        };
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let sent = splice(&bytes, &scanned(text), edit).joined();
        let sent = String::from_utf8(sent.to_vec()).expect("text");
        scanned(&sent);
        sent
    };
    let default = Some((BoundName::CompletionTokens, 8));
    for (sent, default, max, expect) in [
        ("{}", default, None, r#"{"max_completion_tokens":8}"#),
        (
            r#"{"max_completion_tokens":null,"n":1}"#,
            default,
            None,
            r#"{"max_completion_tokens":8,"n":1}"#,
        ),
        (
            r#"{"max_tokens": null}"#,
            default,
            None,
            r#"{"max_completion_tokens":8,"max_tokens": null}"#,
        ),
        (r#"{"max_tokens":9}"#, default, None, r#"{"max_tokens":9}"#),
        (
            r#"{"max_tokens":9}"#,
            default,
            Some(8),
            r#"{"max_tokens":8}"#,
        ),
        (
            r#"{"max_tokens":8}"#,
            default,
            Some(8),
            r#"{"max_tokens":8}"#,
        ),
        (
            r#"{"max_tokens":1,"max_completion_tokens":99}"#,
            None,
            Some(8),
            r#"{"max_tokens":1,"max_completion_tokens":8}"#,
        ),
        // The name that another API has for it bounds nothing here.
        (
            r#"{"max_output_tokens":1}"#,
            default,
            Some(8),
            r#"{"max_completion_tokens":8,"max_output_tokens":1}"#,
        ),
    ] {
        assert_eq!(edited(sent, default, max), expect, "{sent}");
    }
}

#[test]
fn an_id_is_replaced_as_the_backend_knows_it() {
    let text = r#"{"previous_response_id":"resp_1TAG","conversation":{"id":"conv_1TAG"},"input":"resp_1TAG"}"#;
    let mut calls = ROWS.iter().filter_map(|row| row.answer.call());
    let call = calls.find(|call| call.state.is_some()).expect("responses");
    let body = scan::body(text.as_bytes(), call.members, false).expect("a good body");
    let ids: Vec<_> = body
        .references
        .iter()
        .map(|one| (one.at.clone(), Some(one.id.trim_end_matches("TAG").into())))
        .collect();
    let edit = Edit {
        ids: &ids,
        ..Edit::default()
    };
    let sent = splice(&Bytes::from(text), &body, edit).joined();
    assert_eq!(
        sent,
        r#"{"previous_response_id":"resp_1","conversation":{"id":"conv_1"},"input":"resp_1TAG"}"#
    );
}

#[test]
fn an_edit_within_another_goes_with_it() {
    let text = r#"{"model":"m","user":{"file_id":"f"},"x":1}"#;
    let scanned = scanned(text);
    let ids: Vec<_> = scanned
        .references
        .iter()
        .map(|one| (one.at.clone(), Some("longer than before".into())))
        .collect();
    assert_eq!(ids.len(), 1);
    let edit = Edit {
        ids: &ids,
        end_user: Some(EndUser {
            id: "ann",
            added: UserMembers::default(),
        }),
        ..Edit::default()
    };
    let sent = splice(&Bytes::from(text), &scanned, edit).joined();
    assert_eq!(sent, r#"{"model":"m","user":"ann","x":1}"#);
}

#[test]
fn a_large_body_goes_on_in_pieces_of_its_own_memory() {
    let long = "x".repeat(100_000);
    let text = format!(r#"{{"model":"m","stream":true,"max_tokens":9,"input":"{long}"}}"#);
    let edit = Edit {
        model: Some("deployed"),
        usage: true,
        max_bound: Some(8),
        ..Edit::default()
    };
    let bytes = Bytes::from(text.clone());
    let mut sent = splice(&bytes, &scanned(&text), edit);
    let expect = format!(
        r#"{{"stream_options":{{"include_usage":true}},"model":"deployed","stream":true,"max_tokens":8,"input":"{long}"}}"#
    );
    assert_eq!(sent.len(), expect.len());
    assert_eq!(sent.clone().joined(), expect);
    let mut last = Bytes::new();
    while let Some(piece) = sent.take_next() {
        assert!(!piece.is_empty());
        last = piece;
    }
    assert!(sent.is_empty());
    let place = |bytes: &Bytes| bytes.as_ptr_range().end;
    assert_eq!(place(&last), place(&bytes), "not copied");
}
