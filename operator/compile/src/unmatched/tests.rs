use serde_json::{Value, json};

use crate::fixture::{self, object, settings};
use crate::{Index, Kind, Secrets, Settings, compile};

/// A route of consumers with a key, whose one rule serves `gpt-*` by the backend `eu`.
fn route(name: &str) -> Value {
    let mut route = fixture::route(name);
    route["spec"]["authentication"] = keys();
    route["spec"]["rules"][0]["matches"] = json!([{"models": ["gpt-*"]}]);
    route
}

fn keys() -> Value {
    json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat"}}}})
}

/// A consumer of the team `team`.
fn consumer(name: &str, team: &str) -> Value {
    let mut secret = fixture::secret(name, name);
    secret["metadata"]["labels"]["attributes.tundish.dev/team"] = json!(team);
    secret
}

/// A backend `eu` with the deployment `prod` of gpt-4o.
fn backend(name: &str) -> Value {
    let mut backend = fixture::backend(name);
    backend["spec"]["deployments"] = json!([
        {"name": "gpt-prod", "model": "gpt-4o"},
        {"name": "gpt-4o-mini"},
        {"name": "o3"},
    ]);
    backend
}

/// Two namespaces with consumers and a route each.
fn installation() -> Vec<Value> {
    vec![
        backend("team/eu"),
        route("team/chat"),
        consumer("team/search", "search"),
        consumer("team/nightly", "batch"),
        backend("other/eu"),
        route("other/chat"),
        consumer("other/ann", "sales"),
    ]
}

/// What is found about the quota `name` of this spec beside `objects`, as `FIELD: MESSAGE`.
fn judged(name: &str, spec: Value, objects: Vec<Value>, settings: &Settings) -> Vec<String> {
    let mut quota = fixture::quota(name);
    let Value::Object(fields) = spec else {
        panic!("no fields: {spec}");
    };
    for (field, value) in fields {
        quota["spec"][field] = value;
    }
    let mut index = Index::default();
    for value in objects.into_iter().chain([quota]) {
        index.apply(object(value));
    }
    let compiled = compile(&index, settings);
    let verdict = fixture::verdict(&compiled, Kind::AiQuota, name);
    assert!(verdict.conditions[0].holds, "{verdict:?}");
    let found = verdict.diagnostics.iter();
    found
        .map(|one| format!("{}: {}", one.field, one.message))
        .collect()
}

fn found(name: &str, spec: Value) -> Vec<String> {
    judged(name, spec, installation(), &settings())
}

/// The one thing that is found.
fn only(name: &str, spec: Value) -> String {
    let found = found(name, spec);
    let [one] = &*found else {
        panic!("not one finding: {found:?}");
    };
    one.clone()
}

fn models(names: &[&str]) -> Value {
    json!({"match": {"models": names}})
}

fn names(names: &[&str]) -> Value {
    json!({"match": {"consumers": {"names": names}}})
}

fn attributes(attributes: Value) -> Value {
    let mut spec = names(&[]);
    spec["match"]["consumers"]["attributes"] = attributes;
    spec
}

#[test]
fn a_model_is_served_by_its_name_or_as_that_of_a_deployment() {
    for served in ["gpt-prod", "gpt-4o", "gpt-4o-*", "gpt-*", "gpt-4o-mini"] {
        assert_eq!(found("team/q", models(&[served])), [""; 0], "{served}");
    }
    // o3 is deployed, but no rule takes it.
    for other in ["o3", "claude*", "gpt-5"] {
        let found = found("team/q", models(&["gpt-4o", other]));
        assert_eq!(found.len(), 1, "{other}");
        assert!(
            found[0].starts_with("spec.match.models[1]: no covered rule serves"),
            "{found:?}"
        );
    }
    assert_eq!(
        only("team/q", models(&["gpt-4o-mnii"])),
        "spec.match.models[0]: no covered rule serves gpt-4o-mnii, by this name or as the model of a \
         deployment (did you mean gpt-4o-mini?), so it counts nothing; correct it, or serve it by a rule"
    );
    // Where a rule names the deployment, every name that it takes is served.
    let mut objects = installation();
    objects[1]["spec"]["rules"][0]["backendRefs"] = json!([{"name": "eu", "deployment": "o3"}]);
    let of = |name| judged("team/q", models(&[name]), objects.clone(), &settings());
    for served in ["gpt-made-up", "o3"] {
        assert_eq!(of(served), [""; 0], "{served}");
    }
    assert_eq!(of("gpt-4o").len(), 0);
    assert_eq!(of("claude").len(), 1);
}

#[test]
fn only_the_rules_that_the_quota_covers_serve_its_models() {
    let mut objects = installation();
    let rule = objects[1]["spec"]["rules"][0].clone();
    objects[1]["spec"]["rules"] = json!([rule, {
        "name": "reasoning", "matches": [{"models": ["o3"]}], "backendRefs": [{"name": "eu"}],
    }]);
    let of = |section: &str| {
        let mut spec = models(&["o3"]);
        spec["targetRefs"] = json!([{"name": "chat", "sectionName": section}]);
        judged("team/q", spec, objects.clone(), &settings()).len()
    };
    assert_eq!((of("all"), of("reasoning"), of("")), (1, 0, 0));
}

#[test]
fn nothing_is_said_of_models_while_a_route_is_in_error() {
    for break_it in [
        |objects: &mut Vec<Value>| drop(objects.remove(0)),
        |objects: &mut Vec<Value>| objects[0]["spec"]["endpoint"] = json!("ftp://x"),
        |objects: &mut Vec<Value>| {
            objects[1]["spec"]["rules"][0]["retry"] = json!({"attempts": 99})
        },
        |objects: &mut Vec<Value>| objects[1]["spec"]["rules"] = json!("none"),
    ] {
        let mut objects = installation();
        break_it(&mut objects);
        assert_eq!(
            judged("team/q", models(&["claude"]), objects, &settings()),
            [""; 0]
        );
    }
    let none = vec![backend("team/eu")];
    assert_eq!(
        judged("team/q", models(&["claude"]), none, &settings()),
        [""; 0]
    );
}

#[test]
fn a_name_is_that_of_a_consumer_that_can_call_the_covered_routes() {
    for name in ["search", "team/search", "nightly"] {
        assert_eq!(found("team/q", names(&[name])), [""; 0], "{name}");
    }
    assert_eq!(
        only("team/q", names(&["nightly", "serach"])),
        "spec.match.consumers.names[1]: serach is no consumer that can call the covered routes (did you mean \
         search?), so the name has no effect; correct it, or give its Secret the labels that a route selects"
    );
    // A tenant learns nothing of the consumers of others.
    for foreign in ["other/ann", "other/gone"] {
        assert_eq!(
            only("team/q", names(&[foreign])),
            "spec.match.consumers.names[0]: the covered routes admit no consumer of namespace other, so the \
             name has no effect; remove it"
        );
    }
    let platform = "tundish-system/q";
    assert_eq!(
        found(platform, names(&["other/ann", "team/search"])),
        [""; 0]
    );
    let wrong = only(platform, names(&["ann"]));
    assert!(wrong.contains("(did you mean other/ann?)"), "{wrong}");
    let wrong = only(platform, names(&["other/an"]));
    assert!(wrong.contains("(did you mean other/ann?)"), "{wrong}");
    let mut spec = names(&["other/ann"]);
    spec["match"]["namespaces"] = json!(["team"]);
    assert!(only(platform, spec).contains("is no consumer"));
}

#[test]
fn a_target_admits_the_consumers_that_it_selects() {
    let mut objects = installation();
    let mut vip = route("team/vip");
    vip["spec"]["authentication"]["apiKeys"]["secretSelector"]["matchLabels"] =
        json!({"keys": "vip"});
    vip["spec"]["hostnames"] = json!(["vip.example.com"]);
    let mut secret = consumer("team/director", "board");
    secret["metadata"]["labels"]["keys"] = json!("vip");
    objects.extend([vip, secret]);
    let of = |target: &str, mut spec: Value| {
        spec["targetRefs"] = json!([{"name": target}]);
        judged("team/q", spec, objects.clone(), &settings()).len()
    };
    assert_eq!(
        (
            of("vip", names(&["director"])),
            of("vip", names(&["search"]))
        ),
        (0, 1)
    );
    assert_eq!(
        (
            of("chat", names(&["director"])),
            of("chat", names(&["search"]))
        ),
        (1, 0)
    );
    let board = || attributes(json!({"team": "board"}));
    assert_eq!((of("vip", board()), of("chat", board())), (0, 1));
}

#[test]
fn an_attribute_is_that_of_a_consumer() {
    assert_eq!(
        found("team/q", attributes(json!({"team": "search"}))),
        [""; 0]
    );
    let missing = only("team/q", attributes(json!({"tema": "search"})));
    assert_eq!(
        missing,
        "spec.match.consumers.attributes.tema: no consumer that can call the covered routes has the attribute \
         tema (did you mean team?), so the quota has no effect; correct it, or label a Secret \
         attributes.tundish.dev/tema: search"
    );
    let value = only("team/q", attributes(json!({"team": "serch"})));
    assert!(
        value.contains("has the attribute team: serch (did you mean search?)"),
        "{value}"
    );
    // Of another namespace.
    assert!(only("team/q", attributes(json!({"team": "sales"}))).contains("team: sales,"));
    assert_eq!(
        found("tundish-system/q", attributes(json!({"team": "sales"}))),
        [""; 0]
    );
}

#[test]
fn a_name_and_an_attribute_must_be_those_of_one_consumer() {
    let mut spec = names(&["search"]);
    spec["match"]["consumers"]["attributes"] = json!({"team": "batch"});
    assert_eq!(
        only("team/q", spec),
        "spec.match.consumers: no consumer that can call the covered routes has all of this, so the quota has \
         no effect; correct or remove a part"
    );
}

#[test]
fn overrides_are_for_consumers_that_the_quota_counts() {
    let of = |match_: Value, consumers: Value| {
        let limits = json!([{"name": "minute", "limit": 1}]);
        let overrides = json!([{"consumers": consumers, "limits": limits}]);
        found(
            "team/q",
            json!({"match": match_, "per": ["Consumer"], "overrides": overrides}),
        )
    };
    let search = || json!({"names": ["search"]});
    assert_eq!(of(json!({}), search()), [""; 0]);
    assert_eq!(of(json!({"consumers": search()}), search()), [""; 0]);
    let outside = of(
        json!({"consumers": search()}),
        json!({"names": ["nightly"]}),
    );
    assert_eq!(outside.len(), 1);
    assert!(
        outside[0].starts_with(
            "spec.overrides[0].consumers.names[0]: nightly is no consumer that the quota counts"
        ),
        "{outside:?}"
    );
    let outside = of(
        json!({"consumers": search()}),
        json!({"attributes": {"team": "batch"}}),
    );
    assert!(
        outside[0].contains("so the override has no effect"),
        "{outside:?}"
    );
    // One warning is enough.
    let none = of(
        json!({"consumers": {"names": ["gone"]}}),
        json!({"names": ["lost"]}),
    );
    assert_eq!(none.len(), 1, "{none:?}");
}

#[test]
fn nothing_is_said_of_consumers_that_the_objects_do_not_tell() {
    let unknown = || vec![names(&["gone"]), attributes(json!({"team": "gone"}))];
    // Made elsewhere.
    let elsewhere = Settings {
        secrets: Secrets::Some,
        ..settings()
    };
    for spec in unknown() {
        assert_eq!(judged("team/q", spec, installation(), &elsewhere), [""; 0]);
    }
    // On a route for everybody: a tenant is not to know who is elsewhere.
    let mut objects = installation();
    objects[1]["spec"]["authentication"] = json!({"anonymous": {}});
    let open = Settings {
        host_grants: vec!["*=team".parse().unwrap()],
        ..settings()
    };
    let of = |name: &str, spec| judged(name, spec, objects.clone(), &open).len();
    assert_eq!(
        of("team/q", names(&["other/gone", "other/ann", "anonymous"])),
        0
    );
    assert_eq!(of("team/q", attributes(json!({"team": "gone"}))), 0);
    assert_eq!(
        of("tundish-system/q", attributes(json!({"team": "gone"}))),
        1
    );
    assert_eq!(
        of("tundish-system/q", names(&["other/gone", "other/ann"])),
        1
    );
}

#[test]
fn callers_without_a_secret_match_where_a_route_admits_them() {
    let stranger = "key-0123456789abcdef";
    let claimed = "entra-a@b";
    let closed = found("team/q", names(&["anonymous", stranger, claimed]));
    assert_eq!(closed.len(), 3, "{closed:?}");
    assert!(
        closed[0].contains("no covered route has anonymous"),
        "{closed:?}"
    );
    assert!(
        closed[1].contains("no covered route has passThrough"),
        "{closed:?}"
    );
    let mut objects = installation();
    objects[1]["spec"]["authentication"] = json!({"passThrough": {}});
    let open = Settings {
        host_grants: vec!["*=team".parse().unwrap()],
        ..settings()
    };
    let of = |spec| judged("team/q", spec, objects.clone(), &open).len();
    assert_eq!(of(names(&[stranger, claimed])), 0);
    assert_eq!(
        (
            of(names(&["anonymous"])),
            of(attributes(json!({"team": "x"})))
        ),
        (1, 1)
    );
}

#[test]
fn tokens_say_names_and_values_and_their_issuers_which_attributes() {
    let mut objects = installation();
    objects[1]["spec"]["authentication"] = json!({"jwt": [
        {"issuer": "https://a.example", "audiences": ["api"], "attributeClaims": {"team": "groups"}},
        {"issuer": "https://b.example", "audiences": ["api"], "attributeClaims": {"role": "roles"}},
    ]});
    let open = Settings {
        host_grants: vec!["*=team".parse().unwrap()],
        ..settings()
    };
    let of = |name: &str, spec| judged(name, spec, objects.clone(), &open);
    for known in [
        names(&["gone", "team/also"]),
        attributes(json!({"team": "gone"})),
        attributes(json!({"role": "gone"})),
    ] {
        assert_eq!(of("team/q", known.clone()), [""; 0], "{known}");
    }
    assert_eq!(of("team/q", names(&["other/gone"])).len(), 1);
    assert_eq!(of("tundish-system/q", names(&["other/gone"])).len(), 1);
    assert_eq!(of("tundish-system/q", names(&["team/gone"])), [""; 0]);
    let unknown = of("team/q", attributes(json!({"roel": "x"})));
    assert_eq!(
        unknown,
        [
            "spec.match.consumers.attributes.roel: no consumer that can call the covered routes has the attribute \
             roel (did you mean role?), so the quota has no effect; correct it, or label a Secret \
             attributes.tundish.dev/roel: x, or name its claim in attributeClaims of an issuer"
        ]
    );
    // No issuer has both.
    let both = of("team/q", attributes(json!({"role": "x", "team": "y"})));
    assert_eq!(both.len(), 1);
    assert!(both[0].contains("has all of this"), "{both:?}");
    // A route with passThrough admits no token of the gateway.
    objects[1]["spec"]["authentication"]["passThrough"] = json!({});
    assert_eq!(
        judged("team/q", names(&["gone"]), objects.clone(), &open).len(),
        1
    );
    // One for everybody admits those of the namespace's other routes.
    let mut another = route("team/tokens");
    another["spec"]["rules"][0]["matches"] = json!([{"models": ["claude"]}]);
    objects[1]["spec"]["authentication"]
        .as_object_mut()
        .unwrap()
        .remove("passThrough");
    another["spec"]["authentication"] = objects[1]["spec"]["authentication"].clone();
    objects[1]["spec"]["authentication"] = json!({"anonymous": {}});
    let mut spec = names(&["gone"]);
    spec["targetRefs"] = json!([{"name": "chat"}]);
    assert_eq!(
        judged("team/q", spec.clone(), objects.clone(), &open).len(),
        1
    );
    objects.push(another);
    assert_eq!(judged("team/q", spec, objects, &open), [""; 0]);
}
