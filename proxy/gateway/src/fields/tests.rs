use http::header::{HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, HeaderName};

use super::{Field, Fields};
use crate::answer::X_REQUEST_ID;
use crate::credential::{API_KEY, X_API_KEY};

#[test]
fn a_field_is_found_once_or_as_repeated() {
    let mut headers = HeaderMap::new();
    for (name, value) in [(HOST, "a"), (ORIGIN, "b"), (HOST, "c"), (HOST, "d")] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let fields = Fields::of(&headers);
    let value = HeaderValue::from_static;
    assert_eq!(fields.host, Field::Repeated(&value("a")));
    assert_eq!(fields.origin, Field::Once(&value("b")));
    assert_eq!(fields.api_key, Field::Absent);
    assert_eq!(fields.host.first(), Some(&value("a")));
}

#[test]
fn names_are_those_of_the_constants() {
    let find = |name: HeaderName, field: fn(Fields<'_>) -> bool| {
        let mut headers = HeaderMap::new();
        headers.insert(&name, HeaderValue::from_static("v"));
        assert!(field(Fields::of(&headers)), "{name}");
    };
    find(API_KEY, |fields| fields.api_key != Field::Absent);
    find(X_API_KEY, |fields| fields.x_api_key != Field::Absent);
    find(X_REQUEST_ID, |fields| fields.request_id != Field::Absent);
    let field = |text| HeaderName::from_static(text);
    find(field("content-length"), |fields| {
        fields.content_length != Field::Absent
    });
    find(field("content-type"), |fields| {
        fields.content_type != Field::Absent
    });
    find(field("transfer-encoding"), |fields| {
        fields.transfer_encoding != Field::Absent
    });
    find(field("authorization"), |fields| {
        fields.authorization != Field::Absent
    });
}
