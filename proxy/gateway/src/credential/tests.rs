use http::{HeaderMap, HeaderName, HeaderValue};

use super::shown;
use crate::fields::Fields;

fn keys(headers: &[(&'static str, &str)]) -> Result<Vec<String>, &'static str> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), value_of(value));
    }
    let found = shown(&Fields::of(&map))?;
    Ok(found.iter().map(|one| one.key.to_owned()).collect())
}

fn value_of(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).expect("a value")
}

#[test]
fn every_header_that_holds_a_credential_is_read_in_the_documented_order() {
    let three = [
        ("authorization", "bearer c"),
        ("x-api-key", " b "),
        ("api-key", "a"),
    ];
    assert_eq!(keys(&three), Ok(vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(keys(&[]), Ok(Vec::new()));
}

#[test]
fn an_empty_or_basic_authorization_is_no_credential() {
    for text in ["", "Basic dTpw", "basic", "Bearer", "Bearer  "] {
        assert_eq!(keys(&[("authorization", text)]), Ok(Vec::new()), "{text}");
    }
    assert_eq!(keys(&[("api-key", " ")]), Ok(Vec::new()));
}

#[test]
fn junk_is_refused_only_where_nothing_else_is_shown() {
    let junk = [("authorization", "Negotiate x"), ("api-key", "\u{e9}")];
    for one in junk {
        assert!(keys(&[one]).is_err(), "{one:?}");
        let found = keys(&[one, ("x-api-key", "b")]);
        assert_eq!(found, Ok(vec!["b".into()]));
    }
}

#[test]
fn a_header_that_is_there_twice_is_refused() {
    assert!(keys(&[("api-key", "a"), ("api-key", "a")]).is_err());
}
