//! What each feature keeps an older proxy from.

use super::*;

#[test]
fn a_released_proxy_refuses_longer_answers_than_a_rule_allows() {
    let written = encode(&newest());
    let needing: Vec<_> = entries(&written)
        .unwrap()
        .into_iter()
        .filter(|(_, entry)| matches!(entry, OldEntry::Unsupported(_)))
        .collect();
    // Neither a price nor an origin takes anything away from it.
    let needs = OldEntry::Unsupported(vec!["outputTokens".to_owned()]);
    assert_eq!(needing, [("route/team-a/chat".to_owned(), needs)]);
}

#[test]
fn names_of_consumers_keep_their_namespaces_and_old_names_mean_any() {
    let mut contents = contents();
    let names = vec![
        ConsumerName::new("team-a", "alice"),
        ConsumerName::anywhere("bob"),
    ];
    Arc::make_mut(&mut contents.quotas[0]).consumers.names = names.clone();
    let route = Arc::make_mut(&mut contents.routes[0]);
    Arc::make_mut(&mut route.rules[0]).matches[0]
        .consumers
        .names = names;
    route.authentication.unreadable = true;
    let needing = |contents: &Contents| -> Vec<String> {
        let read = as_proxy(&encode(contents), Features(&[]));
        assert_eq!(
            as_proxy(&encode(contents), Features::KNOWN).contents,
            *contents
        );
        read.unsupported.iter().map(ToString::to_string).collect()
    };
    contents.backends.sort_by(|a, b| a.name.cmp(&b.name));
    // An older proxy would count other consumers of these names too, which is no more than declared.
    // It would also serve them where anybody is admitted.
    assert_eq!(
        needing(&contents),
        ["route/team-a/chat needs consumerNamespaces"]
    );
    Arc::make_mut(&mut contents.routes[0])
        .authentication
        .pass_through = false;
    assert_eq!(needing(&contents), [""; 0]);
    let written = encode(&contents);
    let quota = written.entry(&format!("quota/{}", contents.quotas[0].name));
    let quota: serde_json::Value = serde_json::from_str(quota.unwrap().json()).unwrap();
    let expected = serde_json::json!(["alice", "bob"]);
    assert_eq!(quota["consumers"]["names"], expected);
    let expected = serde_json::json!(["team-a/alice", "*/bob"]);
    assert_eq!(quota["consumers"]["fullNames"], expected);
}

#[test]
fn a_proxy_without_an_operation_refuses_what_its_rules_match() {
    for (operation, feature) in [
        (Operation::Moderations, "moderations"),
        (Operation::VectorStores, "vectorStores"),
        (Operation::Containers, "containers"),
    ] {
        let mut contents = contents();
        let route = Arc::make_mut(&mut contents.routes[0]);
        let operations = &mut Arc::make_mut(&mut route.rules[0]).matches[0].operations;
        *operations = vec![operation, Operation::Embeddings];
        let written = encode(&contents);
        contents.backends.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(as_proxy(&written, Features::KNOWN).contents, contents);
        let needing = entries(&written).unwrap().into_iter();
        let needing: Vec<_> = needing
            .filter(|(_, entry)| matches!(entry, OldEntry::Unsupported(_)))
            .collect();
        let needs = OldEntry::Unsupported(vec![feature.to_owned()]);
        assert_eq!(needing, [("route/team-a/chat".to_owned(), needs)]);
        let refusing = as_proxy(&written, Features(&[])).contents;
        assert!(refusing.routes[0].rejected.is_some());
    }
}

#[test]
fn a_proxy_without_overrides_admits_no_caller_more() {
    let needing = |change: &dyn Fn(&mut Quota)| -> Vec<String> {
        let mut contents = contents();
        change(Arc::make_mut(&mut contents.quotas[0]));
        let read = as_proxy(&encode(&contents), Features(&[]));
        read.unsupported.iter().map(ToString::to_string).collect()
    };
    let overridden = |amounts: &[(&str, u64)]| {
        let amounts = amounts
            .iter()
            .map(|(name, amount)| ((*name).into(), *amount));
        let overridden = Override {
            consumers: ConsumerMatch::default(),
            amounts: amounts.collect(),
        };
        needing(&move |quota| quota.overrides = vec![overridden.clone()])
    };
    // The limits have 1,000.
    assert_eq!(overridden(&[("rps", 1_001), ("tpm", 1_000)]), [""; 0]);
    let smaller = ["quota/team-a/spend needs smallerOverrides"];
    assert_eq!(overridden(&[("rps", 2_000), ("tpm", 999)]), smaller);
    // Namespaces make a quota cover less, so a proxy that overlooks them is stricter.
    let namespaces = |quota: &mut Quota| {
        quota.scope = Scope::Namespaces(vec!["team-a".into(), "team-b".into()]);
    };
    assert_eq!(needing(&namespaces), [""; 0]);
    let split = |quota: &mut Quota| quota.per.insert(0, Per::Namespace);
    assert_eq!(needing(&split), ["quota/team-a/spend needs perNamespace"]);
}

#[test]
fn the_form_of_what_is_new_in_a_quota_is_fixed() {
    let mut contents = contents();
    let quota = Arc::make_mut(&mut contents.quotas[0]);
    quota.scope = Scope::Namespaces(vec!["team-a".into(), "team-b".into()]);
    quota.warn_at = WarnAt::new([80, 95]);
    quota.overrides = vec![Override {
        consumers: ConsumerMatch {
            names: vec![ConsumerName::new("team-a", "batch")],
            attributes: Vec::new(),
        },
        amounts: vec![("rps".into(), 0)],
    }];
    let written = encode(&contents);
    let entry = written.entry("quota/team-a/spend").unwrap();
    let entry: serde_json::Value = serde_json::from_str(entry.json()).unwrap();
    assert_eq!(entry["scope"], serde_json::json!({"type": "Gateway"}));
    assert_eq!(entry["namespaces"], serde_json::json!(["team-a", "team-b"]));
    assert_eq!(entry["warnAt"], serde_json::json!([80, 95]));
    let overrides = serde_json::json!([{
        "consumers": {"names": ["batch"], "fullNames": ["team-a/batch"]},
        "limits": [{"name": "rps", "amount": 0}],
    }]);
    assert_eq!(entry["overrides"], overrides);
}

#[test]
fn the_form_of_identities_is_fixed_and_names_outlive_a_restart() {
    let principals = [
        Principal::Workload {
            client_id: Some("c".into()),
            tenant_id: None,
        },
        Principal::Managed { client_id: None },
        Principal::Application {
            tenant_id: "t".into(),
            client_id: "c".into(),
            secret: Secret::new("s3cr3t"),
        },
    ];
    let backends = ["a/0", "a/1", "a/2"].into_iter().zip(principals);
    let backends = backends.map(|(name, principal)| {
        let scope = "https://ai.azure.com/.default".into();
        let auth = BackendAuth::Identity(Identity { principal, scope });
        Arc::new(backend(name, auth))
    });
    let declared = Contents {
        backends: backends.collect(),
        ..Contents::default()
    };
    let written = encode(&declared);
    let scope = "https://ai.azure.com/.default";
    for (key, expect) in [
        (
            "backend/a/0",
            serde_json::json!({"type": "WorkloadIdentity", "scope": scope, "clientId": "c"}),
        ),
        (
            "backend/a/1",
            serde_json::json!({"type": "ManagedIdentity", "scope": scope}),
        ),
        (
            "backend/a/2",
            serde_json::json!({"type": "ClientSecret", "scope": scope, "tenantId": "t",
                "clientId": "c", "secret": "s3cr3t"}),
        ),
    ] {
        let entry = written.entry(key).unwrap();
        let entry: serde_json::Value = serde_json::from_str(entry.json()).unwrap();
        assert_eq!(entry["auth"], expect);
        assert_eq!(entry["needs"], serde_json::json!(["identities"]));
    }
    assert_eq!(decode(&written).unwrap(), declared);
    // An older proxy calls none of them.
    let old = as_proxy(&written, Features(&[]));
    assert!(old.contents.backends.is_empty());
    assert_eq!(old.unsupported.len(), 3);
    // On disk only the secret is left out.
    let kept = decode(&without_credentials(&written)).unwrap();
    assert_eq!(kept.backends[..], declared.backends[..2]);
}

#[test]
fn the_form_of_issuers_is_fixed_and_they_outlive_a_restart() {
    let texts = |all: &[&str]| all.iter().map(|one| (*one).into()).collect();
    let bare = |name: &str| Issuer {
        trust: Trust {
            source: Source {
                issuer: name.into(),
                jwks_uri: None,
            },
            audiences: texts(&["api://ai"]),
            mapping: Mapping {
                consumer: "sub".into(),
                attributes: Vec::new(),
            },
        },
        required: Required::default(),
    };
    let mut full = bare("https://b.example");
    full.trust.source.jwks_uri = Some("https://b.example/keys".into());
    full.trust.mapping.attributes = vec![("team".into(), "groups".into())];
    full.required = Required {
        scopes: texts(&["chat"]),
        roles: texts(&["user"]),
        clients: texts(&["app"]),
    };
    let mut declared = contents();
    declared.backends.sort_by(|a, b| a.name.cmp(&b.name));
    let [by_token, passed] = [0, 1].map(|index| {
        let route = Arc::make_mut(&mut declared.routes[index]);
        route.authentication.issuers = vec![bare("https://a.example"), full.clone()];
        route.authentication.pass_through = index == 1;
        format!("route/{}", route.name)
    });
    let written = encode(&declared);
    let of = |key: &str| -> serde_json::Value {
        serde_json::from_str(written.entry(key).unwrap().json()).unwrap()
    };
    assert_eq!(
        of(&by_token)["authentication"]["issuers"],
        serde_json::json!([
            {"issuer": "https://a.example", "audiences": ["api://ai"], "consumerClaim": "sub"},
            {"issuer": "https://b.example", "jwksUri": "https://b.example/keys", "audiences": ["api://ai"],
             "consumerClaim": "sub", "attributeClaims": [["team", "groups"]], "requiredScopes": ["chat"],
             "requiredRoles": ["user"], "allowedClients": ["app"]},
        ])
    );
    assert_eq!(of(&by_token)["needs"], serde_json::json!(["jwt"]));
    assert!(of(&passed)["needs"].is_null());
    assert_eq!(as_proxy(&written, Features::KNOWN).contents, declared);
    let kept = decode(&without_credentials(&written)).unwrap();
    assert_eq!(kept.routes, declared.routes);
    // A proxy without tokens keeps the matches and refuses, and one that lacks something else knows the
    // callers that it refuses.
    let old = as_proxy(&written, Features(&[]));
    assert_eq!(old.unsupported.len(), 1);
    let refusing = &old.contents.routes[0];
    assert!(refusing.rejected.is_some() && refusing.authentication.unreadable);
    assert_eq!(
        refusing.rules[0].matches,
        declared.routes[0].rules[0].matches
    );
    let issuers = &declared.routes[0].authentication.issuers;
    assert_eq!(refusing.authentication.issuers, *issuers);
    let released = entries(&written).unwrap().into_iter();
    let released: Vec<_> = released
        .filter(|(_, entry)| matches!(entry, OldEntry::Unsupported(_)))
        .collect();
    let needs = OldEntry::Unsupported(vec!["jwt".to_owned()]);
    assert_eq!(released, [(by_token, needs)]);
}

#[test]
fn an_older_proxy_leaves_a_backend_out_whose_certificate_is_not_checked() {
    let unchecked = Backend {
        skips_verification: true,
        ..backend("a/unchecked", BackendAuth::None)
    };
    let declared = Contents {
        backends: vec![
            Arc::new(backend("a/checked", BackendAuth::None)),
            Arc::new(unchecked),
        ]
        .into(),
        ..Contents::default()
    };
    let written = encode(&declared);
    assert_eq!(decode(&written).unwrap(), declared);
    let old = as_proxy(&written, Features(&[]));
    assert_eq!(old.contents.backends[..], declared.backends[..1]);
    let unsupported: Vec<String> = old.unsupported.iter().map(ToString::to_string).collect();
    assert_eq!(
        unsupported,
        ["backend/a/unchecked needs insecureSkipVerify"]
    );
}
