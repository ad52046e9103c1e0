use proxy_core::admit::Reachable;
use serde_json::{Value, json};

use super::{deployment, deployments, list, one};
use crate::error::Dialect;

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn reachable(name: &str, model: &str) -> Reachable {
    Reachable {
        name: name.into(),
        model: model.into(),
    }
}

#[test]
fn each_dialect_has_its_own_list() {
    let models = [reachable("a", "gpt-5"), reachable("b", "gpt-5")];
    let openai = read(&list(&models, Dialect::OpenAi));
    assert_eq!(openai["object"], "list");
    assert_eq!(openai["data"][1]["id"], "b");
    let anthropic = read(&list(&models, Dialect::Anthropic));
    let (first, last) = (&anthropic["first_id"], &anthropic["last_id"]);
    assert_eq!((first, last), (&json!("a"), &json!("b")));
    assert_eq!(anthropic["has_more"], false);
    assert_eq!(anthropic["data"][0]["type"], "model");
    let none = read(&list(&[], Dialect::Anthropic));
    assert_eq!(none["first_id"], Value::Null);
    let [a, _] = &models;
    assert_eq!(read(&one(a, Dialect::OpenAi))["object"], "model");
    assert_eq!(read(&one(a, Dialect::Anthropic))["type"], "model");
}

#[test]
fn a_deployment_names_its_model_as_the_resource_manager_does() {
    for (model, format, name, version) in [
        ("gpt-4o-2024-11-20", "OpenAI", "gpt-4o", "2024-11-20"),
        ("gpt-5.6-sol", "OpenAI", "gpt-5.6-sol", ""),
        ("-2024-11-20", "OpenAI", "-2024-11-20", ""),
        ("gpt-4o-2024-11-2x", "OpenAI", "gpt-4o-2024-11-2x", ""),
        (
            "ein-modell-f\u{fc}r-uns",
            "OpenAI",
            "ein-modell-f\u{fc}r-uns",
            "",
        ),
        ("claude-sonnet-5-5", "Anthropic", "claude-sonnet-5-5", ""),
        ("DeepSeek-V4", "DeepSeek", "DeepSeek-V4", ""),
    ] {
        let read = read(&deployment(&reachable("chat", model)));
        assert_eq!(read["name"], "chat");
        let expect = json!({"format": format, "name": name, "version": version});
        assert_eq!(read["properties"]["model"], expect);
        assert_eq!(read["properties"]["provisioningState"], "Succeeded");
    }
    let all = read(&deployments(&[
        reachable("a", "gpt-5"),
        reachable("b", "gpt-5"),
    ]));
    assert_eq!(all["value"][1]["name"], "b");
    assert_eq!(read(&deployments(&[])), json!({"value": []}));
}
