use std::sync::Arc;

use serde_json::{Value, json};

use super::{list, one};
use crate::error::Dialect;

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn each_dialect_has_its_own_list() {
    let names: Vec<Arc<str>> = vec!["a".into(), "b".into()];
    let openai = read(&list(&names, Dialect::OpenAi));
    assert_eq!(openai["object"], "list");
    assert_eq!(openai["data"][1]["id"], "b");
    let anthropic = read(&list(&names, Dialect::Anthropic));
    let (first, last) = (&anthropic["first_id"], &anthropic["last_id"]);
    assert_eq!((first, last), (&json!("a"), &json!("b")));
    assert_eq!(anthropic["has_more"], false);
    assert_eq!(anthropic["data"][0]["type"], "model");
    let none = read(&list(&[], Dialect::Anthropic));
    assert_eq!(none["first_id"], Value::Null);
    assert_eq!(read(&one("a", Dialect::OpenAi))["object"], "model");
    assert_eq!(read(&one("a", Dialect::Anthropic))["type"], "model");
}
