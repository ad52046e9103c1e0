use std::fmt::Write;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::Name;
use crate::json::Cursor;

fn usage() -> Name {
    Name::new(b"\"usage\"")
}

/// The value that is found, as JSON.
fn found(text: &str) -> Option<Value> {
    let Cursor { bytes, at, .. } = usage().last_in(text.as_bytes())?;
    let mut values = serde_json::Deserializer::from_slice(&bytes[at..]).into_iter();
    values.next()?.ok()
}

#[test]
fn finds_a_member_of_the_answer_itself_only() {
    assert_eq!(found(r#"{"usage":1}"#), Some(json!(1)));
    assert_eq!(
        found(" {\"a\":[{}], \"usage\" :\n 1 , \"b\":{}} \n"),
        Some(json!(1))
    );
    assert_eq!(found(r#"{"a":{"usage":1}}"#), None);
    assert_eq!(found(r#"{"a":[{"usage":1}],"b":{"usage":2}}"#), None);
    assert_eq!(found(r#"{"usage":1,"a":{"usage":2}}"#), Some(json!(1)));
    assert_eq!(
        found(r#"{"a":{"usage":2},"usage":1,"long":"long long text"}"#),
        Some(json!(1))
    );
    assert_eq!(found(r#"[{"usage":1}]"#), None);
    assert_eq!(found(r#"{"usage":1"#), Some(json!(1)));
    assert_eq!(found(r#"{"a":"long long text","usage":1"#), None);
}

#[test]
fn strings_about_the_member_are_not_the_member() {
    for text in [
        r#"{"a":"usage","b":1}"#,
        r#"{"a":"\"usage\":1"}"#,
        r#"{"a":"\"usage","b":1}"#,
        r#"{"\"usage":1}"#,
        r#"{"\\\"usage":1}"#,
        r#"{"a":["usage",1]}"#,
        r#""usage":1"#,
        r#""usage""#,
        "",
    ] {
        assert_eq!(found(text), None, "{text}");
    }
    assert_eq!(found(r#"{"a":"\\","usage":1}"#), Some(json!(1)));
}

#[test]
fn many_members_of_the_name_cost_one_walk() {
    let nested = |count: usize| {
        let mut text = String::from("{\"usage\":0,\"a\":[");
        for number in 0..count {
            write!(text, "{{\"usage\":{number}}},").expect("a string");
        }
        text + "0]}"
    };
    for count in [0, 1, 3, 4, 5, 20_000] {
        assert_eq!(found(&nested(count)), Some(json!(0)), "{count}");
    }
}

/// JSON whose names are often the wanted one.
fn value() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["usage", "\"usage\":{", "\\", "\\\"", "é\n", "", "}"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<u32>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name =
            prop::sample::select(vec!["usage", "usage", "a", "\"usage", "usage\\", "{", "["]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5).prop_map(|members| {
                let members = members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value));
                Value::from(members.collect::<Map<_, _>>())
            }),
        ]
    })
}

/// The same value, with blanks around everything and members twice.
fn written(value: &Value, blank: &str, out: &mut String) {
    out.push_str(blank);
    match value {
        Value::Object(members) => {
            out.push('{');
            // What stands first is repeated by what stands last.
            let twice = members.iter().take(1).map(|(name, _)| (name, &Value::Null));
            for (index, (name, value)) in twice.chain(members).enumerate() {
                let comma = if index > 0 { "," } else { "" };
                write!(out, "{comma}{blank}{}{blank}:", json!(name)).expect("a string");
                written(value, blank, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                written(item, blank, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
    out.push_str(blank);
}

proptest! {
    #[test]
    fn agrees_with_a_reader_of_everything(value in value(), blank in prop::sample::select(vec!["", " ", "\r\n\t"])) {
        let mut text = String::new();
        written(&value, blank, &mut text);
        let parsed: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(found(&text), parsed.get("usage").cloned(), "{}", text);
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(prop::sample::select(b"\"usage\":{}[],\\ 1".to_vec()), 0..80)) {
        prop_assert!(usage().last_in(&bytes).is_none_or(|value| value.at <= bytes.len()));
    }
}
