//! Proxies and operators of different versions: what one writes and the other does not know.

use proxy_core::names::Usage;
use proxy_core::quota::{Carried, CounterReading, LimitName, StoreState, SubjectKey};
use proxy_core::table::Scope;
use std::collections::BTreeMap;

use super::properties::{any_contents, any_price};
// What the first proxies verify.
use super::released::{OldAck, OldEntry, OldReport, OldResult, entries};
use super::*;
use crate::v1::digest_in_a_row as digest;
use crate::v1::{Ack, AckResult, Denials, Report};

mod features;

/// Everything that a released operator writes: a snapshot, a delta, a heartbeat, and what is carried.
const OPERATOR: &str = include_str!("../../fixtures/v1/operator.ndjson");

/// Everything that a released proxy writes: acknowledgements of both results, and a report.
const PROXY: &str = include_str!("../../fixtures/v1/proxy.ndjson");

/// An operator that can colour routes, quotas, backends and keys whose name says so.
const COLOUR: Features = Features(&[Feature {
    name: "colour",
    needed_by: |declared| {
        let name = match declared {
            Declared::Backend(backend) => &backend.name,
            Declared::Route(route) => &route.name,
            Declared::Quota(quota) => &quota.name,
            Declared::Key(key) => &key.secret,
        };
        name.name().starts_with("red")
    },
}]);

/// What an operator of version 0.1.0 writes: everything of [`newest`] in one snapshot.
const OPERATOR_0_1_0: &str = include_str!("../../fixtures/v1-0.1.0/operator.ndjson");

fn lines() -> Vec<Line> {
    let old = encode(&contents());
    let mut after = contents();
    after.quotas.clear();
    Arc::make_mut(&mut after.routes[0]).rejected = Some("broken".into());
    let new = encode(&after);
    let (changed, removed) = diff(&old, &new);
    let carried = Carried {
        limit: limit_name(),
        key: SubjectKey([1; 16]),
        period_start_ms: 7,
        amount: 9,
    };
    vec![
        Line::Snapshot(Snapshot {
            digest: digest(&old),
            ..snapshot(old.clone())
        }),
        Line::Delta(Delta {
            base: digest(&old),
            revision: 43,
            digest: digest(&new),
            replicas: 2,
            changed,
            edited: BTreeMap::new(),
            removed,
        }),
        Line::Heartbeat(Heartbeat {
            revision: 43,
            digest: digest(&new),
            replicas: 2,
        }),
        Line::Carried(v1::Carried {
            replicas: 2,
            entries: vec![carried.into()],
        }),
    ]
}

fn limit_name() -> LimitName {
    LimitName {
        quota: name("team-a/spend"),
        limit: "rps".into(),
    }
}

fn acks() -> [Ack; 2] {
    let applied = Ack {
        replica: "p1".to_owned(),
        revision: 42,
        digest: "d1".to_owned(),
        result: AckResult::Applied,
        error: None,
        unsupported: Vec::new(),
    };
    let refused = Ack {
        result: AckResult::Refused,
        error: Some("object \"route/a/b\": broken".to_owned()),
        ..applied.clone()
    };
    [applied, refused]
}

fn report() -> Report {
    let reading = CounterReading {
        limit: limit_name(),
        key: SubjectKey([0xab; 16]),
        subject: "consumer=team-a/alice".into(),
        period_start_ms: Some(86_400_000),
        used: 12,
        reserved: 5,
        amount: 50,
        overridden: None,
        warned: None,
    };
    let denials = Denials {
        limit: limit_name(),
        denials: 3,
        shadow_denials: 1,
    };
    let replica = ("p1".to_owned(), "4f".to_owned());
    let counted = Counted {
        counters: vec![reading],
        limits: vec![denials],
        ..Counted::new(StoreState::Lost)
    };
    Report::new(replica, counted)
}

#[test]
fn this_proxy_reads_what_a_released_operator_writes() {
    let read: Vec<Line> = OPERATOR
        .lines()
        .map(|line| Line::parse(line.as_bytes()).unwrap())
        .collect();
    assert_eq!(read, lines());
    let Line::Snapshot(snapshot) = read[0].clone() else {
        panic!("the first line is a snapshot");
    };
    let mut expected = contents();
    expected.backends.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(decode(&snapshot.verified().unwrap()).unwrap(), expected);
}

#[test]
fn this_proxy_reads_what_an_operator_with_prices_by_class_writes() {
    let Ok(Line::Snapshot(snapshot)) = Line::parse(OPERATOR_0_1_0.as_bytes()) else {
        panic!("the line is a snapshot");
    };
    let read = as_proxy(&snapshot.verified().unwrap(), Features::KNOWN);
    assert!(read.unsupported.is_empty());
    let mut expected = newest();
    expected.backends.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(read.contents, expected);
}

#[test]
fn an_unknown_price_stays_unknown_and_one_of_0_stays_0() {
    let mut contents = contents();
    let backend = Arc::make_mut(&mut contents.backends[0]);
    let [of_0, unknown] = [Some(Arc::default()), None].map(|price| Deployment {
        price,
        ..backend.deployments[0].clone()
    });
    backend.deployments = vec![of_0, unknown];
    let sent = backend.deployments.clone();
    let name = backend.name.clone();
    let read = decode(&encode(&contents)).unwrap();
    let found = read.backends.iter().find(|one| one.name == name).unwrap();
    assert_eq!(found.deployments, sent);
    // The first release wrote 0 for a deployment without a price, and still means that.
    let then = old(
        r#"{"backend/a/b": {"kind": "Foundry", "endpoint": "https://a.example",
        "auth": {"type": "None"}, "connectTimeoutMs": 1, "firstByteTimeoutMs": 1, "idleTimeoutMs": 1,
        "deployments": [{"name": "m", "model": "m", "inputPerMillion": 0,
            "cachedInputPerMillion": 0, "outputPerMillion": 0}]}}"#,
    );
    assert_eq!(
        then.contents.backends[0].deployments[0].price,
        Some(Arc::default())
    );
}

proptest! {
    #[test]
    fn a_released_proxy_never_charges_less_than_a_deployment_costs(
        price in any_price(), parts in prop::array::uniform7(0u64..1_000), long: bool,
    ) {
        let Some(price) = price else { return Ok(()) };
        let mut contents = contents();
        let backend = Arc::make_mut(&mut contents.backends[0]);
        backend.deployments[0].price = Some(Arc::new(price.clone()));
        let key = format!("backend/{}", backend.name);
        let written = encode(&contents);
        let entry: serde_json::Value = serde_json::from_str(written.entry(&key).unwrap().json()).unwrap();
        let rate = |name: &str| u128::from(entry["deployments"][0][name].as_u64().unwrap());
        let [cached, cache_write, audio, image, text, audio_output, output] = parts;
        let usage = Usage {
            input_tokens: cached + cache_write + audio + image + text + if long { 1 << 20 } else { 0 },
            cached_input_tokens: cached,
            cache_write_tokens: cache_write,
            audio_input_tokens: audio,
            image_input_tokens: image,
            output_tokens: output + audio_output,
            audio_output_tokens: audio_output,
            ..Usage::default()
        };
        let fresh = u128::from(usage.input_tokens - cached) * rate("inputPerMillion");
        let then = fresh
            + u128::from(cached) * rate("cachedInputPerMillion")
            + u128::from(usage.output_tokens) * rate("outputPerMillion");
        let then = u64::try_from(then.div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let routed = price.routed.first().map(|(model, _)| &**model);
        for model in [None, routed] {
            prop_assert!(price.cost_micros(usage, model) <= then);
        }
    }
}

#[test]
fn this_operator_reads_what_a_released_proxy_writes() {
    let [applied, refused, reported] = PROXY.lines().collect::<Vec<_>>()[..] else {
        panic!("two acknowledgements and a report");
    };
    let read = [applied, refused].map(|line| serde_json::from_str::<Ack>(line).unwrap());
    assert_eq!(read, acks());
    assert_eq!(serde_json::from_str::<Report>(reported).unwrap(), report());
}

#[test]
fn a_released_proxy_reads_what_this_operator_writes() {
    for (line, then) in lines().iter().zip(OPERATOR.lines()) {
        let released: released::OldLine = serde_json::from_str(then).unwrap();
        assert_eq!(released::line(line), released);
    }
    let Ok(Line::Snapshot(then)) = Line::parse(OPERATOR.lines().next().unwrap().as_bytes()) else {
        panic!("the first line is a snapshot");
    };
    let read = entries(&encode(&contents())).unwrap();
    assert_eq!(read, entries(&then.objects).unwrap());
}

#[test]
fn a_released_operator_reads_what_this_proxy_writes() {
    let mut written = acks().to_vec();
    written[0].unsupported = vec![Unsupported {
        entry: "route/a/red".to_owned(),
        needs: vec!["colour".to_owned()],
    }];
    let mut then = PROXY.lines();
    for ack in &written {
        let json = serde_json::to_string(ack).unwrap();
        let read: OldAck = serde_json::from_str(&json).unwrap();
        assert_eq!(read, serde_json::from_str(then.next().unwrap()).unwrap());
        assert_eq!(read.result == OldResult::Applied, ack.error.is_none());
    }
    let json = serde_json::to_string(&report()).unwrap();
    let read: OldReport = serde_json::from_str(&json).unwrap();
    assert_eq!(read, serde_json::from_str(then.next().unwrap()).unwrap());
}

proptest! {
    #[test]
    fn a_released_proxy_reads_any_table(contents in any_contents()) {
        prop_assert!(entries(&encode(&contents)).is_ok());
    }
}

#[test]
fn an_entry_names_the_features_that_it_needs() {
    let mut red = contents();
    red.routes.push(Arc::new(route("team-a/red")));
    let written = encode_reusing(&red, COLOUR, &Contents::default(), &Objects::default());
    let needing: Vec<_> = entries(&written)
        .unwrap()
        .into_iter()
        .filter(|(_, entry)| matches!(entry, OldEntry::Unsupported(_)))
        .collect();
    let needs = OldEntry::Unsupported(vec!["colour".to_owned()]);
    assert_eq!(needing, [("route/team-a/red".to_owned(), needs)]);
    // A proxy that knows it reads the entry as it was meant.
    let decoded = as_proxy(&written, COLOUR);
    assert!(decoded.unsupported.is_empty());
    assert_eq!(decoded.contents.routes, red.routes);
}

fn as_proxy(objects: &Objects, features: Features) -> Decoded {
    decode_reusing(objects, features, &Objects::default(), &Decoded::default()).unwrap()
}

fn old(json: &str) -> Decoded {
    as_proxy(&parsed(json), Features(&[]))
}

#[test]
fn what_needs_an_unknown_feature_is_restricted_and_the_rest_is_applied() {
    let mut red = contents();
    red.backends
        .push(Arc::new(backend("team-a/red", BackendAuth::None)));
    red.routes.push(Arc::new(route("team-a/red")));
    red.quotas.push(Arc::new(quota("team-a/red")));
    let first = Arc::clone(&red.keys[0]);
    red.keys.push(Arc::new(Key {
        secret: name("team-a/red"),
        ..Key::clone(&first)
    }));
    let written = encode_reusing(&red, COLOUR, &Contents::default(), &Objects::default());
    let decoded = as_proxy(&written, Features(&[]));
    let lacking: Vec<&str> = decoded.unsupported.iter().map(|one| &*one.entry).collect();
    let expected = [
        "backend/team-a/red",
        "key/team-a/red",
        "quota/team-a/red",
        "route/team-a/red",
    ];
    assert_eq!(lacking, expected);
    let reason = "it needs the feature colour, which this version of the proxy lacks";
    let read = decoded.contents;
    let unchanged = contents();
    assert_eq!((read.backends.len(), &read.keys), (3, &unchanged.keys));
    // Everything that matches is kept, and nothing that serves.
    let mut refusing = route("team-a/red");
    refusing.rejected = Some(reason.into());
    refusing.authentication.unreadable = true;
    for rule in &mut refusing.rules {
        let rule = Arc::make_mut(rule);
        rule.targets.clear();
        rule.retry = Retry::default();
        rule.request_timeout = None;
        rule.first_token_timeout = None;
        rule.allows_unmetered = false;
        rule.shows_backend = false;
        rule.names_end_user = false;
        rule.mcp_servers = None;
    }
    assert!(read.routes.contains(&Arc::new(refusing)));
    let mut denying = quota("team-a/red");
    denying.unsupported = Some(reason.into());
    assert!(read.quotas.contains(&Arc::new(denying)));
    for route in &unchanged.routes {
        assert!(read.routes.contains(route));
    }
}

#[test]
fn an_unreadable_part_of_a_route_matches_everything() {
    let read = old(r#"{"route/a/b": {"needs": ["regex", "jwt"],
        "createdS": 5, "hostnames": ["a.example", {"regex": "b.*"}],
        "authentication": {"keys": ["a/k"], "jwt": [7]},
        "rules": [
            {"name": "one", "matches": [
                {"models": ["gpt-4o", {"regex": "o."}], "operations": ["Messages"]},
                {"operations": ["Divination"]},
                {"headers": [["x-tier", "gold"], ["x-team", {"regex": ".*"}]]}
            ], "targets": "novel"},
            {"matches": "novel"}
        ]}}"#);
    assert_eq!(read.unsupported[0].needs, ["regex", "jwt"]);
    let route = &read.contents.routes[0];
    let reason = "it needs the features regex, jwt, which this version of the proxy lacks";
    assert_eq!(
        (route.created_s, route.rejected.as_deref()),
        (5, Some(reason))
    );
    assert!(route.serves("a.example") && route.serves("elsewhere"));
    assert_eq!(route.authentication.keys[..], [name("a/k")]);
    let [one, two] = &route.rules[..] else {
        panic!("both rules are kept");
    };
    let messages = |models: Vec<ModelPattern>| Match {
        models,
        operations: vec![Operation::Messages],
        ..Match::default()
    };
    let gold = Match {
        headers: vec![(HeaderName::from_static("x-tier"), "gold".into())],
        ..Match::default()
    };
    let gpt = ModelPattern::parse("gpt-4o").unwrap();
    let expected = [
        messages(vec![gpt]),
        messages(Vec::new()),
        Match::default(),
        gold,
    ];
    assert_eq!((&*one.name, &one.matches[..]), ("one", &expected[..]));
    assert_eq!((&*two.name, &two.matches[..]), ("1", &[][..]));
}

#[test]
fn an_unreadable_part_of_a_quota_covers_everything() {
    let read = old(r#"{"quota/a/q": {"needs": ["novel"],
        "scope": {"type": "Elsewhere"}, "models": ["gpt-4o", 7], "consumers": 7,
        "mode": "Whisper", "limits": [
            {"name": "old", "unit": "Requests", "amount": 1, "window": {"type": "Minute"}},
            {"name": "new", "unit": "Karma", "amount": 1, "window": {"type": "Minute"}}
        ]}}"#);
    let quota = &read.contents.quotas[0];
    assert_eq!((&quota.scope, quota.mode), (&Scope::Gateway, Mode::Enforce));
    assert!(quota.models.is_empty() && quota.consumers == ConsumerMatch::default());
    let limits: Vec<&str> = quota.limits.iter().map(|limit| &*limit.name).collect();
    assert_eq!(limits, ["old"]);
    assert!(quota.unsupported.is_some());
}

#[test]
fn an_entry_of_an_unknown_kind_that_says_so_does_not_refuse_the_table() {
    let read = old(r#"{"issuer/a/b": {"needs": ["jwt"], "url": "x"}}"#);
    assert_eq!(&*read.unsupported[0].entry, "issuer/a/b");
    assert!(decode(&parsed(r#"{"issuer/a/b": {"url": "x"}}"#)).is_err());
    assert!(decode(&parsed(r#"{"route/a/b": {"needs": "jwt"}}"#)).is_err());
}

#[test]
fn an_unsupported_backend_stays_unsupported_on_disk() {
    let mut red = contents();
    red.backends = vec![Arc::new(backend("team-a/red", BackendAuth::None))].into();
    let written = encode_reusing(&red, COLOUR, &Contents::default(), &Objects::default());
    let restored = as_proxy(&without_credentials(&written), Features(&[]));
    assert!(restored.contents.backends.is_empty());
    assert_eq!(&*restored.unsupported[0].entry, "backend/team-a/red");
    let restored = as_proxy(&without_credentials(&written), COLOUR);
    assert_eq!(restored.contents.backends, red.backends);
}

#[test]
fn a_delta_of_one_route_decodes_one_route() {
    let mut before = contents();
    before.routes.push(Arc::new(route("team-a/red")));
    let objects = encode_reusing(&before, COLOUR, &Contents::default(), &Objects::default());
    let first = as_proxy(&objects, Features(&[]));
    let mut after = before.clone();
    Arc::make_mut(&mut after.routes[0]).created_s += 1;
    let (changed, removed) = diff(&objects, &encode_reusing(&after, COLOUR, &before, &objects));
    let mut next = objects.clone();
    for (key, entry) in changed.iter() {
        next.insert(&key.into(), entry.clone());
    }
    assert_eq!((changed.len(), removed.len()), (1, 0));
    let second = decode_reusing(&next, Features(&[]), &objects, &first).unwrap();
    let fresh = as_proxy(&next, Features(&[]));
    assert_eq!(second.contents, fresh.contents);
    assert_eq!(second.unsupported, fresh.unsupported);
    let kept = |now: &[Arc<Route>], then: &[Arc<Route>]| -> Vec<String> {
        let pairs = now
            .iter()
            .zip(then)
            .filter(|(now, then)| !Arc::ptr_eq(now, then));
        pairs.map(|(now, _)| now.name.to_string()).collect()
    };
    let decoded = kept(&second.contents.routes, &first.contents.routes);
    assert_eq!(decoded, ["team-a/chat"]);
    for (now, then) in second
        .contents
        .backends
        .iter()
        .zip(&first.contents.backends)
    {
        assert!(Arc::ptr_eq(now, then));
    }
}
