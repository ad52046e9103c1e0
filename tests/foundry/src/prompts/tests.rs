use serde_json::json;

use super::*;

fn read(input: &Value) -> Result<Vec<Prompt>, Failure> {
    let body = Object::read(json!({"input": input}).to_string().as_bytes())?;
    Prompt::read(&body, "input")
}

#[test]
fn reads_all_four_forms() {
    let text = |text: &str| Prompt::Text(text.to_owned());
    assert_eq!(read(&json!("a b")).unwrap(), [text("a b")]);
    assert_eq!(read(&json!(["a", "b"])).unwrap(), [text("a"), text("b")]);
    assert_eq!(read(&json!([1, 2, 3])).unwrap(), [Prompt::Tokens(3)]);
    let lists = read(&json!([[1], [2, 3]])).unwrap();
    assert_eq!(lists, [Prompt::Tokens(1), Prompt::Tokens(2)]);
    let sizes: Vec<_> = lists
        .iter()
        .map(|one| (one.count(), one.estimate()))
        .collect();
    assert_eq!(sizes, [(1, 1), (2, 2)]);
    assert_eq!((text("a b").count(), text("abcde").estimate()), (2, 2));
}

#[test]
fn refuses_what_is_no_input() {
    for wrong in [
        json!(null),
        json!(""),
        json!([]),
        json!({}),
        json!([1, "a"]),
        json!(["a", ""]),
    ] {
        assert!(read(&wrong).is_err(), "{wrong}");
    }
    let many: Vec<&str> = vec!["a"; 2049];
    assert!(read(&json!(many)).is_err());
}
