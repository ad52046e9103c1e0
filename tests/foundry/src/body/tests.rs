use super::*;

fn object(json: &str) -> Object {
    Object::read(json.as_bytes()).unwrap()
}

/// The code and the message of a refusal.
fn refusal<T: fmt::Debug>(result: Result<T, Failure>) -> (Value, String) {
    let body = result.unwrap_err().body;
    let message = body["error"]["message"].as_str().unwrap().to_owned();
    (body["error"]["code"].clone(), message)
}

#[test]
fn reads_what_is_there_and_takes_null_for_absent() {
    let object = object(r#"{"a":"x","b":null,"c":7,"d":true,"e":[1]}"#);
    assert_eq!(object.text("a").unwrap(), Some("x"));
    assert_eq!(object.text("b").unwrap(), None);
    assert_eq!(object.number("c", 1, 10).unwrap(), Some(7));
    assert_eq!(object.flag("d").unwrap(), Some(true));
    assert_eq!(object.array("e").unwrap().map(Vec::len), Some(1));
    assert_eq!(object.or("b", "default"), "default");
    assert_eq!(object.members(), ["a", "b", "c", "d", "e"]);
}

#[test]
fn refuses_in_the_apis_words() {
    let object = object(r#"{"a":"x","n":0,"m":99,"f":1.5}"#);
    let check = |found: (Value, String), code: &str, part: &str| {
        assert_eq!(found.0, code);
        assert!(found.1.contains(part), "{}", found.1);
    };
    let string = "'a': expected a boolean, but got a string";
    check(refusal(object.flag("a")), "invalid_type", string);
    let decimal = "expected an integer, but got a decimal number";
    check(refusal(object.number("f", 1, 2)), "invalid_type", decimal);
    let below = "below minimum value. Expected a value >= 1, but got 0";
    check(
        refusal(object.number("n", 1, 2)),
        "integer_below_min_value",
        below,
    );
    let above = "above maximum value. Expected a value <= 2, but got 99";
    check(
        refusal(object.number("m", 1, 2)),
        "integer_above_max_value",
        above,
    );
    let absent = "Missing required parameter: 'z'";
    check(
        refusal::<()>(Err(missing("z"))),
        "missing_required_parameter",
        absent,
    );
}

#[test]
fn refuses_duplicate_keys_and_what_is_no_object() {
    for (body, part) in [
        (r#"{"x":1,"\u0078":2}"#, "duplicate key 'x'"),
        ("[]", "a JSON object"),
        ("", "could not parse"),
    ] {
        let (_, message) = refusal(Object::read(body.as_bytes()));
        assert!(message.contains(part), "{message}");
    }
}
