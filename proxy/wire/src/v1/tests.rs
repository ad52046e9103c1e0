mod certificates;
mod properties;
mod released;
mod skew;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use expect_test::expect_file;
use http::HeaderName;
use proptest::collection::vec;
use proptest::prelude::*;
use proxy_core::auth::{Issuer, Key, KeyDigest, Mapping, Required, Source, Trust};
use proxy_core::balance::HealthSettings;
use proxy_core::names::{
    Class, ConsumerMatch, ConsumerName, ModelPattern, ObjectName, Operation, Secret,
};
use proxy_core::quota::{Limit, Mode, OnStoreLoss, Per, Period, TimeZone, Unit, WarnAt, Window};
use proxy_core::route::{HostPattern, Match};
use proxy_core::table::{
    Affinity, Authentication, Backend, BackendAuth, BackendKind, Capacity, Contents, Cors,
    Deployment, Identity, OutputTokens, Override, Principal, Quota, Retry, Route, Rule, Scope,
    StreamUsage, Table, Target,
};
use proxy_core::tokens::{LongContext, Price, Rates};

use super::*;
use crate::v1;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn backend(text: &str, auth: BackendAuth) -> Backend {
    Backend {
        name: name(text),
        kind: BackendKind::Foundry,
        endpoint: "https://contoso.openai.azure.com".into(),
        api_version: Some("2024-10-21".into()),
        auth,
        deployments: vec![Deployment {
            name: "gpt-4o-prod".into(),
            model: "gpt-4o".into(),
            price: Some(Arc::new(Price {
                rates: Rates {
                    cached_input: 1_250_000,
                    ..Rates::of_text(2_500_000, 10_000_000)
                },
                ..Price::default()
            })),
            stream_usage: StreamUsage::Auto,
            capacity: Capacity::default(),
        }],
        ca: Some(Arc::new([Arc::new([0])])),
        server_name: Some("foundry.internal".into()),
        skips_verification: false,
        connect_timeout: Duration::from_secs(2),
        stream_start_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_millis(30_500),
        health: HealthSettings::default(),
    }
}

fn route(text: &str) -> Route {
    Route {
        name: name(text),
        created_s: 1_780_000_000,
        hostnames: vec![
            HostPattern::parse("ai.example.com").unwrap(),
            HostPattern::parse("*.example.com").unwrap(),
        ],
        authentication: Authentication {
            keys: vec![name("team-a/alice"), name("team-a/bob")].into(),
            issuers: Vec::new(),
            anonymous: false,
            pass_through: true,
            unreadable: false,
        },
        cors: None,
        rejected: None,
        rules: vec![Arc::new(Rule {
            name: "chat".into(),
            matches: vec![Match {
                models: vec![
                    ModelPattern::parse("gpt-4o").unwrap(),
                    ModelPattern::parse("o*").unwrap(),
                ],
                operations: vec![Operation::ChatCompletions, Operation::Embeddings],
                headers: vec![(HeaderName::from_static("x-tier"), "gold".into())],
                consumers: ConsumerMatch {
                    names: vec![ConsumerName::anywhere("alice")],
                    attributes: vec![("team".into(), "a".into())],
                },
            }],
            targets: vec![Target {
                backend: name("team-a/east"),
                deployment: Some("gpt-4o-prod".into()),
                weight: 3,
                priority: 1,
            }],
            output_tokens: OutputTokens::default(),
            retry: Retry {
                attempts: 2,
                on_too_many_requests: true,
                on_server_error: false,
                on_connect_failure: true,
                on_timeout: true,
                on_credential_refused: true,
                on_not_there: false,
            },
            request_timeout: Some(Duration::from_secs(300)),
            first_token_timeout: None,
            allows_unmetered: false,
            shows_backend: false,
            names_end_user: false,
            mcp_servers: None,
            affinity: Affinity::default(),
            class: Class::default(),
        })],
    }
}

fn quota(text: &str) -> Quota {
    let limit = |name: &str, unit, window| Limit {
        name: name.into(),
        unit,
        amount: 1_000,
        window,
    };
    let vienna = TimeZone::named("Europe/Vienna").unwrap();
    Quota {
        name: name(text),
        scope: Scope::Targets(vec![
            (name("team-a/chat"), Some("chat".into())),
            (name("team-a/other"), None),
        ]),
        models: vec![ModelPattern::parse("gpt-*").unwrap()],
        consumers: ConsumerMatch::default(),
        per: vec![Per::Consumer, Per::Attribute],
        attribute: "team".into(),
        mode: Mode::Shadow,
        on_store_loss: OnStoreLoss::Deny,
        overrides: Vec::new(),
        warn_at: WarnAt::default(),
        limits: vec![
            limit("rps", Unit::Requests, Window::Second),
            limit("tpm", Unit::Tokens, Window::Minute),
            limit(
                "spend",
                Unit::CostMicros,
                Window::Calendar(Period::Month, vienna),
            ),
            limit("running", Unit::Concurrency, Window::Held),
        ],
        unsupported: None,
    }
}

fn contents() -> Contents {
    Contents::new(
        vec![
            backend("team/east", BackendAuth::None),
            backend(
                "team-a/east",
                BackendAuth::ApiKey(Secret::new("s3cr3t-credential")),
            ),
            backend("team-a/west", BackendAuth::PassThrough),
        ],
        vec![
            route("team-a/chat"),
            Route {
                rejected: Some("backendRefs[0]: no AIBackend team-a/gone".into()),
                hostnames: Vec::new(),
                ..route("team-a/other")
            },
        ],
        vec![quota("team-a/spend")],
        vec![Key {
            secret: name("team-a/alice"),
            consumer: "alice".into(),
            digest: KeyDigest::of("alice's key"),
            attributes: vec![("team".into(), "a".into())],
            expires_ms: Some(1_900_000_000_000),
        }],
    )
}

/// [`contents`] with everything that came after the first release.
fn newest() -> Contents {
    let mut contents = contents();
    let west = contents.backends.last_mut().unwrap();
    let router = Deployment {
        name: "router".into(),
        model: "model-router".into(),
        price: Some(Arc::new(Price {
            rates: Rates {
                cached_input: 250_000,
                cache_write: 3_125_000,
                audio_input: 40_000_000,
                image_input: 5_000_000,
                audio_output: 80_000_000,
                image_output: 30_000_000,
                second: 100,
                ..Rates::of_text(2_500_000, 15_000_000)
            },
            long_context: Some(LongContext {
                above_input_tokens: 272_000,
                rates: Rates::of_text(5_000_000, 22_500_000),
            }),
            routed: [("gpt-5.6-luna".into(), Rates::of_text(300_000, 1_200_000))].into(),
        })),
        stream_usage: StreamUsage::Never,
        capacity: Capacity::default(),
    };
    let unpriced = Deployment {
        name: "unpriced".into(),
        price: None,
        ..router.clone()
    };
    Arc::make_mut(west).deployments.extend([router, unpriced]);
    let route = Arc::make_mut(&mut contents.routes[0]);
    route.cors = Some(Cors {
        allow_origins: vec!["https://app.example.com".into()],
    });
    Arc::make_mut(&mut route.rules[0]).output_tokens = OutputTokens {
        default: Some(8_192),
        max: Some(16_384),
    };
    contents
}

fn snapshot(objects: Objects) -> Snapshot {
    Snapshot {
        version: VERSION,
        revision: 42,
        digest: digest(&objects),
        replicas: 2,
        objects,
    }
}

fn line(line: &Line) -> Vec<u8> {
    line.to_bytes().unwrap()
}

#[test]
fn the_written_snapshot_is_the_committed_one() {
    let written = line(&Line::Snapshot(snapshot(encode(&newest()))));
    expect_file!["../fixtures/written.ndjson"].assert_eq(std::str::from_utf8(&written).unwrap());
}

#[test]
fn unknown_members_are_ignored() {
    let objects = parsed(r#"{"key/a/b": {"consumer": "c", "colour": "red", "digest": "HASH"}}"#);
    assert_eq!(&*decode(&objects).unwrap().keys[0].consumer, "c");
    let beat = br#"{"type":"heartbeat","revision":1,"digest":"d","replicas":1,"mood":"good"}"#;
    assert!(matches!(Line::parse(beat), Ok(Line::Heartbeat(_))));
}

fn parsed(json: &str) -> Objects {
    serde_json::from_str(&json.replace("HASH", &"ab".repeat(32))).unwrap()
}

#[test]
fn unknown_words_and_keys_are_refused_and_the_object_is_named() {
    let text = serde_json::to_string(&encode(&contents())).unwrap();
    for (from, to, culprit) in [
        ("\"Shadow\"", "\"Whisper\"", "quota/team-a/spend"),
        ("\"CostMicros\"", "\"Karma\"", "quota/team-a/spend"),
        ("\"Targets\"", "\"Elsewhere\"", "quota/team-a/spend"),
        ("Europe/Vienna", "Europe/Atlantis", "quota/team-a/spend"),
        ("\"Embeddings\"", "\"Divination\"", "route/team-a/chat"),
        ("\"PassThrough\"", "\"Mtls\"", "backend/team-a/west"),
        ("\"*.example.com\"", "\"a*b\"", "route/team-a/chat"),
        (
            "\"key/team-a/alice\"",
            "\"token/team-a/alice\"",
            "token/team-a/alice",
        ),
        ("\"key/team-a/alice\"", "\"alice\"", "alice"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = decode(&parsed(&text.replace(from, to)))
            .unwrap_err()
            .to_string();
        assert!(error.contains(culprit), "{error}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}

#[test]
fn another_version_is_refused_before_its_objects_are_read() {
    let future = br#"{"type":"snapshot","version":2,"objects":7}"#;
    assert!(matches!(Line::parse(future), Err(DecodeError::Version(2))));
}

#[test]
fn objects_with_another_digest_are_refused() {
    let stated = Snapshot {
        digest: "00".into(),
        ..snapshot(encode(&contents()))
    };
    assert!(matches!(stated.verified(), Err(DecodeError::Digest { .. })));
}

#[test]
fn a_delta_applies_to_its_base_only() {
    let old = encode(&contents());
    let mut after = contents();
    after.quotas.clear();
    Arc::make_mut(&mut after.routes[0]).rejected = Some("broken".into());
    let new = encode(&after);
    let (changed, removed) = diff(&old, &new);
    assert_eq!(changed.len(), 1);
    assert_eq!(removed, ["quota/team-a/spend"]);
    let delta = Delta {
        base: digest(&old),
        revision: 43,
        digest: digest(&new),
        replicas: 1,
        changed,
        edited: BTreeMap::new(),
        removed,
    };
    let Line::Delta(delta) = Line::parse(&line(&Line::Delta(delta))).unwrap() else {
        panic!("a delta stays a delta");
    };
    assert_eq!(apply(&old, &digest(&old), &delta).unwrap(), new);
    assert!(matches!(
        apply(&new, &digest(&new), &delta),
        Err(DecodeError::Base { .. })
    ));
    let wrong = Delta {
        removed: Vec::new(),
        ..delta
    };
    assert!(matches!(
        apply(&old, &digest(&old), &wrong),
        Err(DecodeError::Digest { .. })
    ));
}

#[test]
fn only_changed_entries_are_encoded_again() {
    let mut before = contents();
    before.backends.sort_by(|a, b| a.name.cmp(&b.name));
    let previous = encode(&before);
    let mut after = before.clone();
    Arc::make_mut(&mut after.routes[0]).created_s += 1;
    let next = encode_reusing(&after, Features::KNOWN, &before, &previous);
    assert_eq!(next, encode(&after));
    for (key, entry) in next.iter() {
        let shared = entry.is_clone_of(previous.entry(key).unwrap());
        assert_eq!(shared, key != "route/team-a/chat", "{key}");
    }
}

#[test]
fn routes_that_admit_the_same_keys_have_one_list() {
    let mut first = contents();
    for other in ["team-a/chat-1", "team-a/chat-2"] {
        let mut route = Route::clone(&first.routes[0]);
        route.name = name(other);
        route.authentication.keys = route.authentication.keys.to_vec().into();
        first.routes.push(route.into());
    }
    first.routes.sort_by(|a, b| a.name.cmp(&b.name));
    let objects = encode(&first);
    let (none, nothing) = (Objects::default(), Decoded::default());
    let read = decode_reusing(&objects, Features::KNOWN, &none, &nothing).unwrap();
    let mut next = first.clone();
    let changed = next
        .routes
        .iter_mut()
        .find(|one| one.name == name("team-a/chat-2"));
    Arc::make_mut(changed.unwrap()).created_s += 1;
    let next = decode_reusing(&encode(&next), Features::KNOWN, &objects, &read).unwrap();
    let routes = next.contents.routes.iter();
    let own = routes.filter(|one| one.name.name().starts_with("chat"));
    let mut lists: Vec<_> = own.map(|one| one.authentication.keys.address()).collect();
    assert_eq!(lists.len(), 3);
    lists.dedup();
    assert_eq!(lists.len(), 1);
}

#[test]
fn without_credentials_the_backends_that_need_one_are_left_out() {
    let stripped = without_credentials(&encode(&contents()));
    assert!(!serde_json::to_string(&stripped).unwrap().contains("s3cr3t"));
    let decoded = decode(&stripped).unwrap();
    let left: Vec<_> = decoded
        .backends
        .iter()
        .map(|b| b.name.to_string())
        .collect();
    assert_eq!(left, ["team/east", "team-a/west"]);
    let table = Table::new(decoded);
    assert!(table.rules()[0].targets.is_empty());
}

#[test]
fn an_unreadable_backend_is_left_out_of_the_file() {
    let odd = parsed(r#"{"backend/a/b": {"auth": {"type": "Novel", "password": "s3cr3t"}}}"#);
    assert!(without_credentials(&odd).is_empty());
}

#[test]
fn no_debug_output_shows_a_credential() {
    let objects = encode(&contents());
    assert!(!format!("{:?}", Line::Snapshot(snapshot(objects))).contains("s3cr3t"));
}
