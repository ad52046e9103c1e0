use proptest::prelude::*;
use serde_json::{Value, json};

use super::{is_claim, is_of_foundry, is_place};
use crate::fixture::{self, compiled, found, verdict};
use crate::{Compiled, Kind};

const ISSUER: &str = "https://login.example/tenant/v2.0";

fn entry(more: Value) -> Value {
    let mut entry = json!({"issuer": ISSUER, "audiences": ["api://ai"]});
    let Value::Object(more) = more else {
        panic!("no fields: {more}");
    };
    entry.as_object_mut().unwrap().extend(more);
    entry
}

fn with(authentication: Value) -> Compiled {
    let mut route = fixture::route("team/chat");
    route["spec"]["authentication"] = authentication;
    compiled([route, fixture::backend("team/eu")])
}

fn of(jwt: &Value) -> Compiled {
    with(json!({"jwt": jwt}))
}

#[test]
fn an_issuer_is_compiled_in_order_whatever_the_order_of_its_lists() {
    let one = entry(json!({
        "issuer": "https://b.example", "audiences": ["y", "x"], "jwksURI": "https://b.example/keys?p=1",
        "consumerClaim": "azp", "attributeClaims": {"team": "groups", "role": "/realm/roles"},
        "requiredScopes": ["b", "a"], "requiredRoles": ["r"], "allowedClients": ["q", "p"],
    }));
    let two = entry(json!({"issuer": "https://a.example"}));
    let compiled_once = of(&json!([one, two]));
    let issuers = &compiled_once.contents.routes[0].authentication.issuers;
    assert_eq!(issuers.len(), 2);
    assert_eq!(&*issuers[0].trust.source.issuer, "https://a.example");
    assert_eq!(&*issuers[0].trust.mapping.consumer, "sub");
    assert_eq!(issuers[0].trust.source.jwks_uri, None);
    let listed = |all: &[std::sync::Arc<str>]| all.join(" ");
    assert_eq!(listed(&issuers[1].trust.audiences), "x y");
    assert_eq!(listed(&issuers[1].required.scopes), "a b");
    assert_eq!(listed(&issuers[1].required.clients), "p q");
    let attributes = &issuers[1].trust.mapping.attributes;
    assert_eq!(
        (&*attributes[0].0, &*attributes[0].1),
        ("role", "/realm/roles")
    );
    assert_eq!(compiled_once.contents, of(&json!([two, one])).contents);
    assert_eq!(found(&compiled_once, Kind::AiRoute, "team/chat"), [""; 0]);
    assert!(!compiled_once.contents.routes[0].authentication.unreadable);
}

#[test]
fn an_entry_in_error_rejects_the_route_and_the_others_stay() {
    let good = entry(json!({"issuer": "https://good.example"}));
    for (bad, field) in [
        (json!({"issuer": "http://login.example"}), "issuer"),
        (json!({"issuer": "https://login.example?x"}), "issuer"),
        (json!({"issuer": "https:login.example"}), "issuer"),
        (json!({"issuer": "login.example"}), "issuer"),
        (json!({"jwksURI": "http://login.example/keys"}), "jwksURI"),
        (
            json!({"jwksURI": "https://a:b@login.example/keys"}),
            "jwksURI",
        ),
        (json!({"audiences": []}), "audiences"),
        (json!({"audiences": ["a b"]}), "audiences[0]"),
        (
            json!({"audiences": ["api://ai", "https://ai.azure.com/"]}),
            "audiences[1]",
        ),
        (json!({"consumerClaim": ""}), "consumerClaim"),
        (json!({"consumerClaim": "/a//b"}), "consumerClaim"),
        (
            json!({"attributeClaims": {"team": "a b"}}),
            "attributeClaims.team",
        ),
        (
            json!({"attributeClaims": {"te am": "a"}}),
            "attributeClaims",
        ),
        (json!({"requiredScopes": ["a b"]}), "requiredScopes[0]"),
        (json!({"requiredRoles": [""]}), "requiredRoles[0]"),
        (json!({"allowedClients": vec!["a"; 65]}), "allowedClients"),
    ] {
        let compiled = of(&json!([good, entry(bad.clone())]));
        let expect = format!("Invalid at spec.authentication.jwt[1].{field}");
        assert_eq!(
            found(&compiled, Kind::AiRoute, "team/chat"),
            [expect],
            "{bad}"
        );
        let route = &compiled.contents.routes[0];
        assert!(
            route.rejected.is_some() && route.authentication.unreadable,
            "{bad}"
        );
        let issuers = &route.authentication.issuers;
        assert_eq!(issuers.len(), 1, "{bad}");
        assert_eq!(&*issuers[0].trust.source.issuer, "https://good.example");
    }
    let twice = of(&json!([
        entry(json!({})),
        entry(json!({"audiences": ["b"]}))
    ]));
    assert_eq!(
        found(&twice, Kind::AiRoute, "team/chat"),
        ["Invalid at spec.authentication.jwt[1].issuer"]
    );
    assert_eq!(twice.contents.routes[0].authentication.issuers.len(), 1);
}

#[test]
fn tokens_for_foundry_are_refused() {
    for audience in [
        "https://ai.azure.com",
        "https://ai.azure.com/",
        "https://ai.azure.com/.default",
        "https://ai.azure.com//.default",
        "https://AI.Azure.us",
        "https://cognitiveservices.azure.com",
        "https://cognitiveservices.azure.cn/.default",
        "7d312290-28c8-473c-a0ed-8e53749b6d6d",
        "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe",
        "https://ml.azure.com",
    ] {
        assert!(is_of_foundry(audience), "{audience}");
        let refused = of(&json!([entry(json!({"audiences": [audience]}))]));
        assert!(refused.contents.routes[0].rejected.is_some(), "{audience}");
    }
    for other in [
        "https://ai.azure.com.example",
        "https://ai.azure.de",
        "https://management.azure.com",
        "api://7d312290",
    ] {
        assert!(!is_of_foundry(other), "{other}");
    }
}

#[test]
fn beside_pass_through_no_token_admits() {
    let passed = with(json!({"passThrough": {}, "jwt": [entry(json!({}))]}));
    let noted = &verdict(&passed, Kind::AiRoute, "team/chat").diagnostics;
    let noted: Vec<_> = noted
        .iter()
        .filter(|one| one.field.ends_with("jwt"))
        .collect();
    assert_eq!(noted.len(), 1);
    assert!(noted[0].message.contains("admit no caller"), "{noted:?}");
    let authentication = &passed.contents.routes[0].authentication;
    assert_eq!(authentication.issuers.len(), 1);
    assert!(authentication.pass_through && !authentication.unreadable);
    let foundry = entry(json!({"audiences": ["https://ai.azure.com"]}));
    let refused = with(json!({"passThrough": {}, "jwt": [foundry]}));
    assert!(refused.contents.routes[0].rejected.is_some());
}

#[test]
fn what_has_no_effect_is_noted() {
    let of_open = |more| with(json!({"anonymous": {}, "jwt": [entry(more)]}));
    let noted = of_open(json!({"requiredRoles": ["user"]}));
    assert_eq!(
        found(&noted, Kind::AiRoute, "team/chat"),
        ["Accepted at spec.authentication.jwt[0]"]
    );
    assert_eq!(
        found(&of_open(json!({})), Kind::AiRoute, "team/chat"),
        [""; 0]
    );
    let mut route = fixture::route("team/chat");
    route["spec"]["authentication"] =
        json!({"jwt": [entry(json!({"attributeClaims": {"role": "roles"}}))]});
    let attributes = json!({"role": "reader", "roel": "reader"});
    route["spec"]["rules"][0]["matches"] = json!([{"consumers": {"attributes": attributes}}]);
    let noted = compiled([route.clone(), fixture::backend("team/eu")]);
    assert_eq!(
        found(&noted, Kind::AiRoute, "team/chat"),
        ["Accepted at spec.rules[0].matches[0].consumers.attributes.roel"]
    );
    // A Secret may have it.
    route["spec"]["authentication"]["apiKeys"] =
        json!({"secretSelector": {"matchLabels": {"keys": "chat"}}});
    let secret = fixture::secret("team/a", "k");
    let silent = compiled([route, fixture::backend("team/eu"), secret]);
    assert_eq!(found(&silent, Kind::AiRoute, "team/chat"), [""; 0]);
}

#[test]
fn places_of_keys_are_safe_from_others() {
    for good in [
        "https://login.example",
        "https://login.example:8443/a/b",
        "http://127.0.0.1:9/tenant/",
        "http://localhost/x",
        "http://[::1]:80/",
    ] {
        assert!(is_place(good, false), "{good}");
    }
    for bad in [
        "http://127.0.0.2/",
        "http://localhost.example/",
        "https://",
        "https://u@login.example",
        "https://login.example/#a",
        "https://login.example\\x",
        "HTTPS://login.example",
        "ftp://login.example",
    ] {
        assert!(!is_place(bad, true), "{bad}");
    }
    assert!(is_place("https://login.example/keys?p=1", true));
    assert!(!is_place("https://login.example/keys?p=1", false));
}

proptest! {
    #[test]
    fn a_claim_is_a_name_or_a_pointer(parts in proptest::collection::vec("[a-z.~]{0,3}", 1..4)) {
        let has_bad_escape = |part: &String| {
            let rest = part.replace("~0", "").replace("~1", "");
            rest.contains('~')
        };
        let pointer = format!("/{}", parts.join("/"));
        let good = parts.iter().all(|part| !part.is_empty() && !has_bad_escape(part));
        prop_assert_eq!(is_claim(&pointer), good, "{}", pointer);
        let name = parts.join("/");
        let is_name = !name.is_empty() && !name.starts_with('/');
        prop_assert_eq!(is_claim(&name), is_name || (name.starts_with('/') && is_claim(&name)));
    }
}
