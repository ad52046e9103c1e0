use proptest::prelude::*;
use proxy_core::names::Operation;

use super::{Body, Malformed, StreamOptions};
use crate::api::Answer;
use crate::body::{Kept, Layout};
use crate::error::Dialect;
use crate::json::member;
use crate::rows::ROWS;

fn body(bytes: &[u8]) -> Result<Body, Malformed> {
    let Answer::Backend(chat) = &ROWS[0].answer else {
        panic!("the first row is chat")
    };
    super::body(bytes, chat.members, false)
}

fn ok(text: &str) -> Body {
    body(text.as_bytes()).expect("a good body")
}

/// What the first row of an operation reads in a body.
fn of(operation: Operation, text: &str) -> Result<Body, Malformed> {
    let rows = ROWS.iter().filter(|row| row.operation == operation);
    let mut calls = rows.filter_map(|row| row.answer.call());
    let call = calls.next().expect("it is served");
    super::body(text.as_bytes(), call.members, false)
}

fn refused(text: &str) -> String {
    let Err(Malformed(message)) = body(text.as_bytes()) else {
        panic!("{text} was taken")
    };
    message
}

#[test]
fn finds_what_is_decided_on_with_its_place() {
    let text = r#" {"messages":[{"role":"user","content":"{\"model\":\"x\"}"}], "model" : "gpt-4o","stream":true,
        "stream_options":{"include_usage":false},"max_tokens":5,"n":2,"max_completion_tokens":9} "#;
    let found = ok(text);
    let range = found.model_at.clone().expect("a model");
    assert_eq!(found.model.as_deref(), Some("gpt-4o"));
    assert_eq!(&text[range], "\"gpt-4o\"");
    assert!(found.stream);
    assert_eq!((found.max_output_tokens(), found.choices), (Some(9), 2));
    let StreamOptions::UsageOff(range) = found.stream_options else {
        panic!("usage is off")
    };
    assert_eq!(&text[range], "false");
    assert!(matches!(found.layout, Layout::Json { start: 2, .. }));
}

#[test]
fn reads_every_form_of_stream_options() {
    let options = |text: &str| ok(&format!("{{\"stream_options\":{text}}}")).stream_options;
    assert_eq!(ok("{}").stream_options, StreamOptions::Absent);
    assert_eq!(options("null"), StreamOptions::Null(18..22));
    assert_eq!(
        options("{}"),
        StreamOptions::WithoutUsage {
            start: 19,
            empty: true
        }
    );
    assert_eq!(
        options("{\"a\":1}"),
        StreamOptions::WithoutUsage {
            start: 19,
            empty: false
        }
    );
    assert_eq!(options("{\"include_usage\":true}"), StreamOptions::UsageOn);
}

#[test]
fn refuses_duplicates_of_decided_fields_also_when_escaped() {
    for name in ["model", "stream", "stream_options", "max_tokens", "n"] {
        let value = match name {
            "model" => "\"a\"",
            "stream" => "true",
            "stream_options" => "{}",
            _ => "1",
        };
        let text = format!("{{\"{name}\":{value},\"{name}\":{value}}}");
        assert!(refused(&text).contains("twice"), "{text}");
    }
    assert!(refused(r#"{"model":"a","mod\u0065l":"b"}"#).contains("twice"));
    assert!(
        refused(r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#)
            .contains("twice")
    );
    assert!(
        body(br#"{"metadata":1,"metadata":2}"#).is_ok(),
        "not ours to judge"
    );
}

#[test]
fn refuses_names_that_fold_to_a_decided_one() {
    for name in [
        "Model",
        "MODEL",
        "Stream",
        "N",
        "MAX_TOKENS",
        "max_to\\u212aens",
        "max_to\u{212a}ens",
        "\\u017ftream",
        "\u{17f}tream",
        "Stream_Options",
    ] {
        let text = format!("{{\"model\":\"a\",\"{name}\":1}}");
        assert!(refused(&text).contains("instead of"), "{text}");
    }
    let options = r#"{"model":"a","stream_options":{"Include_Usage":false}}"#;
    assert!(refused(options).contains("\"include_usage\" instead of"));
    for good in [
        r#"{"model":"a","tools":[{"Model":1,"Stream":2}],"response_format":{"N":{"Model":1}}}"#,
        r#"{"model":"a","Metadata":{},"größe":1,"Models":[]}"#,
    ] {
        assert!(body(good.as_bytes()).is_ok(), "{good}");
    }
}

#[test]
fn refuses_control_characters_in_strings() {
    for control in 0..b' ' {
        let text = [
            b"{\"model\":\"a\",\"messages\":[\"new".as_slice(),
            &[control],
            b"line\"]}",
        ]
        .concat();
        let refused = body(&text).expect_err("a control character");
        assert!(
            refused.0.contains("byte 29 is a control character"),
            "{}",
            refused.0
        );
        let text = [b"{\"model\":\"a\",\"na".as_slice(), &[control], b"me\":1}"].concat();
        assert!(body(&text).is_err(), "in a name: {control}");
    }
    let blanks = "{\r\n\t\"model\" :\t\"a\",\n \"messages\": [\"a\\n\\u0000b\u{7f}\"]\r\n}\n";
    assert!(body(blanks.as_bytes()).is_ok());
}

#[test]
fn a_model_beside_that_of_the_path_is_only_found() {
    let Answer::Backend(chat) = &ROWS[0].answer else {
        panic!("the first row is chat")
    };
    for value in ["null", "\"\"", "\"other\"", "7", "[{\"a\":1}]"] {
        let text = format!("{{\"model\":{value},\"n\":2}}");
        let found = super::body(text.as_bytes(), chat.members, true).expect("a good body");
        assert_eq!(found.model, None);
        assert_eq!(&text[found.model_at.expect("a place")], value);
    }
}

#[test]
fn notes_parts_that_are_no_text() {
    for (body, expect) in [
        (r#"{"messages":[{"content":[{"type":"image_url"}]}]}"#, true),
        ("{\"a\":[{\"type\" :\n \"input_audio\"}]}", true),
        (r#"{"a":{"t\u0079pe":"fil\u0065"}}"#, true),
        (r#"{"a":{"type":"input_file"}}"#, true),
        (r#"{"a":{"type":"text","text":"image_url"}}"#, false),
        (r#"{"a":{"properties":{"file":{"type":"object"}}}}"#, false),
        (r#"{"a":["type","image_url"]}"#, false),
    ] {
        assert_eq!(ok(body).has_media, expect, "{body}");
    }
}

#[test]
fn notes_items_that_the_backend_keeps() {
    for (body, expect) in [
        (
            r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#,
            true,
        ),
        (
            r#"{"input":[{"id":"msg_1","type" : "item\u005freference"}]}"#,
            true,
        ),
        (r#"{"input":"item_reference"}"#, false),
        (
            r#"{"input":[{"type":"message","content":"item_reference"}]}"#,
            false,
        ),
    ] {
        assert_eq!(ok(body).has_item_references, expect, "{body}");
    }
}

#[test]
fn notes_tools_of_messages() {
    let messages = ROWS
        .iter()
        .filter(|api| api.dialect == Dialect::Anthropic)
        .find_map(|api| api.answer.call())
        .expect("a row");
    for (body, expect) in [
        (r#"{"tools":[{"name":"a"}]}"#, true),
        (r#"{"tools":[]}"#, false),
        (r#"{"tools":null}"#, false),
        (r#"{"messages":[{"tools":[1]}]}"#, false),
    ] {
        let found = super::body(body.as_bytes(), messages.members, false).expect("a good body");
        assert_eq!(found.has_tools, expect, "{body}");
    }
}

#[test]
fn unescapes_the_model() {
    assert_eq!(
        ok(r#"{"model":"gpt\u002d4o\/x"}"#)
            .model
            .expect("a model")
            .as_ref(),
        "gpt-4o/x"
    );
    assert!(refused(r#"{"model":"\ud800"}"#).contains("escape"));
}

#[test]
fn refuses_wrong_types_by_name() {
    for (text, field) in [
        (r#"{"model":1}"#, "model"),
        (r#"{"model":""}"#, "model"),
        (r#"{"stream":"true"}"#, "stream"),
        (r#"{"stream":1}"#, "stream"),
        (r#"{"max_tokens":0}"#, "max_tokens"),
        (r#"{"max_tokens":-1}"#, "max_tokens"),
        (r#"{"max_tokens":1.5}"#, "max_tokens"),
        (r#"{"max_tokens":99999999999999999999999}"#, "max_tokens"),
        (r#"{"n":[1]}"#, "n"),
        (r#"{"stream_options":[]}"#, "stream_options"),
        (r#"{"stream_options":{"include_usage":1}}"#, "include_usage"),
    ] {
        assert!(refused(text).contains(field), "{text}: {}", refused(text));
    }
}

#[test]
fn refuses_deep_nesting_without_recursion() {
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(body(deep(63).as_bytes()).is_ok());
    assert!(
        refused(&format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64))).contains("deeper")
    );
    assert!(refused(&deep(1_000_000)).contains("deeper"));
}

#[test]
fn refuses_what_is_not_one_object() {
    for text in [
        "",
        " ",
        "[]",
        "1",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{}x",
        "{\"a\":1 \"b\":2}",
        "{\"a\":tru}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":NaN}",
        "{'a':1}",
        "{\"a\":[1,]}",
        "{\"a\":[}",
        "{\"a",
    ] {
        refused(text);
    }
    assert!(body(b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn finds_a_member_of_an_answer() {
    let text = br#"{"id":"x","choices":[{"usage":1}],"usage":{"a":{"b":2}},"z":1}"#;
    assert_eq!(member(text, "usage"), Some(br#"{"a":{"b":2}}"#.as_slice()));
    assert_eq!(member(text, "none"), None);
    assert_eq!(member(b"{\"usage\":1", "usage"), None);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<i32>().prop_map(|n| (f64::from(n) / 4.0).into()),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[a-z\"\\\\é]{0,6}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn takes_every_object_that_serde_writes(value in json(), model in ".{1,20}", pretty: bool) {
        prop_assume!(!model.chars().any(char::is_control) && model.len() <= 256);
        let whole = serde_json::json!({"other": value, "model": model, "tail": [1, {"x": "y"}]});
        let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) };
        let text = text.expect("serialises");
        let found = body(text.as_bytes());
        let found = found.map_err(|e| TestCaseError::fail(e.0))?;
        let range = found.model_at.expect("a model");
        prop_assert_eq!(found.model.as_deref(), Some(&*model));
        let at_range: String = serde_json::from_str(&text[range]).expect("a JSON string");
        prop_assert_eq!(at_range, model);
        let other = member(text.as_bytes(), "other").expect("is there");
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(other).expect("JSON"), value);
    }

    #[test]
    fn never_takes_what_serde_refuses(mut bytes in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>()) {
        // Random bytes, and a good body with one byte changed.
        let mut near = br#"{"model":"gpt","a":[1,{"b":null}],"stream":true,"n":1}"#.to_vec();
        let index = at.index(near.len());
        near[index] = bytes.first().copied().unwrap_or(0);
        bytes.push(b'}');
        for text in [&bytes, &near] {
            // serde refuses raw control characters inside strings, which the scanner leaves to the backend.
            let control = text.iter().any(|byte| *byte < 0x20);
            if body(text).is_ok() && !control {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(text).is_ok(), "{:?}", String::from_utf8_lossy(text));
            }
        }
    }
}

#[test]
fn completions_answer_each_prompt_by_all_that_they_make() {
    for (prompt, texts) in [
        ("\"a\"", 1),
        ("[\"a\",\"b\",\"c\"]", 3),
        ("[1,2,3]", 1),
        ("[[1,2],[3]]", 2),
        ("[]", 1),
        ("null", 1),
    ] {
        let text = format!("{{\"prompt\":{prompt},\"n\":2,\"best_of\":5}}");
        let found = of(Operation::Completions, &text).expect("a good body");
        assert_eq!(
            (found.prompts, found.texts, found.choices),
            (texts, texts, 5)
        );
    }
    let text = "{\"input\":[\"a\",\"b\"],\"n\":7}";
    let found = of(Operation::Embeddings, text).expect("a good body");
    assert_eq!((found.prompts, found.texts, found.choices), (1, 2, 1));
}

#[test]
fn an_image_costs_by_its_quality_and_the_most_without_one() {
    for (member, tokens) in [
        ("", 6_540),
        (",\"quality\":\"low\"", 708),
        (",\"quality\":\"medium\"", 1_884),
        (",\"quality\":\"high\"", 6_540),
        (",\"quality\":\"l\\u006fw\"", 6_540),
        (",\"quality\":null", 6_540),
    ] {
        let text = format!("{{\"prompt\":\"a\"{member}}}");
        let found = of(Operation::Images, &text).expect("a good body");
        assert_eq!(found.image_tokens, Some(tokens), "{member}");
    }
    let found = of(Operation::Responses, "{\"quality\":\"low\"}");
    assert_eq!(found.expect("a good body").image_tokens, None);
}

#[test]
fn what_a_response_continues_is_found_with_its_place() {
    let text = r#"{"background":true,"previous_response_id": "resp_1", "conversation": {"x":{"id":"no"},"id":"conv_1"}}"#;
    let found = of(Operation::Responses, text).expect("a good body");
    assert!(found.background);
    let references: Vec<_> = found
        .references
        .iter()
        .map(|one| (one.kept, &*one.id, &text[one.at.clone()]))
        .collect();
    assert_eq!(
        references,
        [
            (Kept::Response, "resp_1", "\"resp_1\""),
            (Kept::Conversation, "conv_1", "\"conv_1\""),
        ]
    );
    for none in [
        "{\"input\":\"a\",\"background\":false,\"previous_response_id\":null,\"conversation\":null}",
        "{\"input\":\"a\",\"store\":true,\"background\":null}",
    ] {
        let found = of(Operation::Responses, none).expect("a good body");
        assert!(!found.background && found.references.is_empty(), "{none}");
    }
    let found = of(Operation::Responses, "{\"conversation\":\"conv_1\"}");
    assert_eq!(found.expect("a good body").references.len(), 1);
    for (bad, why) in [
        ("{\"background\":1}", "must be true or false"),
        ("{\"previous_response_id\":1}", "must be an id"),
        ("{\"conversation\":{}}", "\"conversation.id\" is missing"),
        (
            "{\"conversation\":{\"id\":null}}",
            "\"conversation.id\" is missing",
        ),
        (
            "{\"conversation\":{\"id\":\"a\",\"id\":\"b\"}}",
            "\"conversation.id\" is given twice",
        ),
        ("{\"conversation\":{\"Id\":\"a\"}}", "write \"id\""),
    ] {
        let Err(Malformed(message)) = of(Operation::Responses, bad) else {
            panic!("{bad} was taken")
        };
        assert!(message.contains(why), "{message}");
    }
}
