use serde_json::{Value, json};

use super::super::claims::Claims;
use super::{Consumer, Unmapped, consumer};
use proxy_core::auth::Mapping;

fn mapped(mapping: &Mapping, claims: &Value) -> Result<Consumer, Unmapped> {
    consumer(mapping, &Claims::new(claims.as_object().unwrap().clone()))
}

fn mapping(consumer: &str, attributes: &[(&str, &str)]) -> Mapping {
    let attributes = attributes.iter();
    Mapping {
        consumer: consumer.into(),
        attributes: attributes
            .map(|(name, claim)| ((*name).into(), (*claim).into()))
            .collect(),
    }
}

#[test]
fn a_list_is_as_many_values_and_a_path_leads_inside() {
    let mapping = mapping(
        "oid",
        &[
            ("group", "groups"),
            ("team", "https://example.com/team"),
            ("role", "/realm_access/roles"),
            ("odd", "/a~1b/0"),
            ("none", "missing"),
        ],
    );
    let claims = json!({
        "oid": "9f8e", "groups": ["g1", 2, true, null, {"x": 1}, "y".repeat(300)],
        "https://example.com/team": "search", "realm_access": {"roles": ["admin"]}, "a/b": ["z"],
    });
    let consumer = mapped(&mapping, &claims).unwrap();
    assert_eq!(&*consumer.name, "9f8e");
    let pairs: Vec<String> = consumer
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let expect = [
        "group=2",
        "group=g1",
        "group=true",
        "odd=z",
        "role=admin",
        "team=search",
    ];
    assert_eq!(pairs, expect);
    assert!(!consumer.lacks_groups);
}

#[test]
fn a_name_is_printable_and_there() {
    for (claims, expect) in [
        (json!({"sub": "system:serviceaccount:a:b"}), true),
        (json!({"sub": 7}), true),
        (json!({"sub": ""}), false),
        (json!({"sub": "a b"}), false),
        (json!({"sub": "a\n"}), false),
        (json!({"sub": "ä"}), false),
        (json!({"sub": ["a"]}), false),
        (json!({"sub": "x".repeat(254)}), false),
        (json!({}), false),
    ] {
        let mapped = mapped(&mapping("sub", &[]), &claims);
        assert_eq!(mapped.is_ok(), expect, "{claims}");
    }
}

#[test]
fn scopes_are_words_and_an_application_has_two_names() {
    let mapping = mapping("azp", &[("scope", "scp"), ("scope", "scope")]);
    let claims = json!({"appid": "1f-2e", "scp": "Chat.Use  Files.Read", "scope": ["x"]});
    let consumer = mapped(&mapping, &claims).unwrap();
    assert_eq!(&*consumer.name, "1f-2e");
    let values: Vec<&str> = consumer
        .attributes
        .iter()
        .map(|(_, value)| &**value)
        .collect();
    assert_eq!(values, ["Chat.Use", "Files.Read", "x"]);
}

#[test]
fn groups_that_the_token_does_not_list_are_told() {
    let mapping = mapping("oid", &[("group", "groups")]);
    let link = json!({"oid": "a", "_claim_names": {"groups": "src1"}, "_claim_sources": {}});
    let implicit = json!({"oid": "a", "hasgroups": true});
    for claims in [link, implicit] {
        assert!(mapped(&mapping, &claims).unwrap().lacks_groups);
    }
    assert!(!mapped(&mapping, &json!({"oid": "a"})).unwrap().lacks_groups);
}
