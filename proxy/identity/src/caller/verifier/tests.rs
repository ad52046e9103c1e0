use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::registry::Registry;
use proxy_admin::shutdown::{self, Trigger};
use proxy_admin::{clock, task};
use proxy_core::admit::Vouched;
use proxy_core::auth::{self, KeyDigest, Mapping, Required, Source, Trust};
use proxy_core::names::Code;
use proxy_core::reach::Reach;
use proxy_core::route::HostPattern;
use proxy_core::table::{Authentication, Contents, Route, Table};
use proxy_core::test_util::{self, rule};
use serde_json::{Value, json};

use super::super::issuers::Issuers;
use super::super::loopback::{Loopback, current};
use super::super::signer::{AUDIENCE, Signer};
use super::Verifier;
use crate::address::Address;
use crate::config::{ApiServer, Config, IMDS, PUBLIC_AUTHORITY, Roots};
use crate::metrics::Metrics;

/// A gateway's issuers.
struct Process {
    issuers: Arc<Issuers>,
    registry: Registry,
    _running: Trigger,
}

impl Process {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::within(Reach::everywhere(), change)
    }

    fn within(reach: Reach, change: impl FnOnce(&mut Config)) -> Self {
        let imds = Address::on_machine(IMDS).unwrap();
        let mut config = Config::new(PUBLIC_AUTHORITY.parse().unwrap(), imds);
        change(&mut config);
        let mut registry = Registry::default();
        let issuers = Arc::new(Issuers::new(
            &config,
            Arc::new(reach),
            Metrics::register(&mut registry),
        ));
        let (trigger, shutdown) = shutdown::channel();
        task::spawn("issuers", Arc::clone(&issuers).run(shutdown));
        Self {
            issuers,
            registry,
            _running: trigger,
        }
    }

    fn verifier(&self, table: &Table) -> Arc<Verifier> {
        self.issuers
            .verifier(table, None)
            .expect("an issuer is listed")
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// A route that lists an issuer, for one host.
fn route(name: &str, host: &str, source: &Source, consumer: &str) -> Route {
    let trust = Trust {
        source: source.clone(),
        audiences: vec![AUDIENCE.into()],
        mapping: Mapping {
            consumer: consumer.into(),
            attributes: vec![("role".into(), "roles".into())],
        },
    };
    Route {
        hostnames: HostPattern::parse(host).into_iter().collect(),
        authentication: Authentication {
            issuers: vec![auth::Issuer {
                trust,
                required: Required::default(),
            }],
            ..Authentication::default()
        },
        ..test_util::route(name, vec![rule("r", Vec::new())])
    }
}

fn table(routes: Vec<Route>) -> Table {
    Table::new(Contents::new(Vec::new(), routes, Vec::new(), Vec::new()))
}

/// What the issuers say of a token: a caller's name, a code, or a word.
async fn vouch(verifier: &Verifier, table: &Table, host: &str, token: &str) -> String {
    let digest = KeyDigest::of(token);
    let vouched = verifier.vouch(table, host, &digest, token, clock::instant());
    match vouched.await {
        Vouched::No => "no".to_owned(),
        Vouched::Caller(caller) => caller.full_name.to_string(),
        Vouched::Elsewhere => "elsewhere".to_owned(),
        Vouched::Failed(why) => why.code.as_str().to_owned(),
    }
}

fn of(issuer: &Loopback, change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = current();
    claims["iss"] = json!(issuer.url);
    change(&mut claims);
    claims
}

#[tokio::test]
async fn a_good_token_is_judged_once_and_a_bad_one_is_known() {
    let (signer, other) = (Signer::elliptic("a"), Signer::elliptic("a"));
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let process = Process::start(|_| {});
    let table = table(vec![route("a/r", "h", &issuer.source(), "oid")]);
    let verifier = process.verifier(&table);
    let good = signer.sign(&of(&issuer, |_| {}));
    for _ in 0..3 {
        assert_eq!(vouch(&verifier, &table, "h", &good).await, "a/9f8e");
    }
    let expect = format!(
        "caller_tokens_total{{issuer=\"{}\",outcome=\"ok\"}} 1",
        issuer.url
    );
    assert!(process.metrics().contains(&expect), "{}", process.metrics());
    assert_eq!(vouch(&verifier, &table, "other", &good).await, "no");

    let invalid = Code::InvalidCredential.as_str();
    let expired = of(&issuer, |claims| claims["exp"] = json!(1_000));
    for (token, expect) in [
        (other.sign(&of(&issuer, |_| {})), invalid),
        (signer.sign(&expired), Code::ExpiredCredential.as_str()),
        (
            signer.sign(&of(&issuer, |claims| claims["oid"] = json!(""))),
            invalid,
        ),
        (
            signer.sign(&of(&issuer, |claims| claims["aud"] = json!("x"))),
            "no",
        ),
        (
            signer.sign(&of(&issuer, |claims| claims["iss"] = json!("x"))),
            "no",
        ),
        ("a.b.c".to_owned(), invalid),
    ] {
        assert_eq!(
            vouch(&verifier, &table, "h", &token).await,
            expect,
            "{token}"
        );
    }
}

#[tokio::test]
async fn a_token_is_forgotten_at_its_end() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let process = Process::start(|_| {});
    let table = table(vec![route("a/r", "h", &issuer.source(), "oid")]);
    let verifier = process.verifier(&table);
    // Its minute of grace is nearly over.
    let ends = clock::now().unix_ms / 1_000 - 58;
    let token = signer.sign(&of(&issuer, |claims| claims["exp"] = json!(ends)));
    assert_eq!(vouch(&verifier, &table, "h", &token).await, "a/9f8e");
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let expired = Code::ExpiredCredential.as_str();
    assert_eq!(vouch(&verifier, &table, "h", &token).await, expired);
}

#[tokio::test]
async fn each_host_has_its_namespace_and_each_namespace_its_names() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let process = Process::start(|_| {});
    let source = issuer.source();
    let routes = vec![
        route("a/r", "one", &source, "oid"),
        route("b/r", "two", &source, "aud"),
    ];
    let table = table(routes);
    let verifier = process.verifier(&table);
    let token = signer.sign(&of(&issuer, |_| {}));
    for _ in 0..2 {
        assert_eq!(vouch(&verifier, &table, "one", &token).await, "a/9f8e");
        assert_eq!(
            vouch(&verifier, &table, "two", &token).await,
            format!("b/{AUDIENCE}")
        );
    }
}

#[tokio::test]
async fn another_place_of_keys_signs_for_its_own_routes_only() {
    let (signer, forger) = (Signer::elliptic("a"), Signer::elliptic("a"));
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let evil = Loopback::start(json!({"keys": [forger.listed()]})).await;
    let forged = Source {
        jwks_uri: Some(format!("{}/keys?p=1", evil.url).into()),
        ..issuer.source()
    };
    let process = Process::start(|_| {});
    let routes = vec![
        route("a/r", "good", &issuer.source(), "oid"),
        route("evil/r", "evil", &forged, "oid"),
    ];
    let table = table(routes);
    let verifier = process.verifier(&table);
    let claims = of(&issuer, |_| {});
    let (good, bad) = (signer.sign(&claims), forger.sign(&claims));
    for _ in 0..2 {
        assert_eq!(vouch(&verifier, &table, "good", &good).await, "a/9f8e");
        assert_eq!(vouch(&verifier, &table, "evil", &bad).await, "evil/9f8e");
        let refused = Code::InvalidCredential.as_str();
        assert_eq!(vouch(&verifier, &table, "good", &bad).await, refused);
        assert_eq!(vouch(&verifier, &table, "evil", &good).await, refused);
    }
}

#[tokio::test]
async fn what_a_namespace_lists_is_known_where_it_takes_tokens_or_strangers() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let process = Process::start(|_| {});
    let open = |name: &str, host: &str| Route {
        authentication: Authentication {
            pass_through: true,
            ..Authentication::default()
        },
        ..route(name, host, &issuer.source(), "oid")
    };
    let routes = vec![
        route("a/jwt", "jwt", &issuer.source(), "oid"),
        open("a/pass", "own"),
        open("b/pass", "others"),
    ];
    let table = table(routes);
    let verifier = process.verifier(&table);
    let good = signer.sign(&of(&issuer, |_| {}));
    let expired = signer.sign(&of(&issuer, |claims| claims["exp"] = json!(1_000)));
    for _ in 0..2 {
        assert_eq!(vouch(&verifier, &table, "jwt", &good).await, "a/9f8e");
        assert_eq!(vouch(&verifier, &table, "own", &good).await, "elsewhere");
        assert_eq!(vouch(&verifier, &table, "others", &good).await, "no");
    }
    let refused = Code::ExpiredCredential.as_str();
    assert_eq!(vouch(&verifier, &table, "own", &expired).await, refused);
    assert_eq!(vouch(&verifier, &table, "others", &expired).await, "no");
}

#[tokio::test]
async fn a_key_that_is_withdrawn_takes_its_tokens_along() {
    let (old, new) = (Signer::elliptic("old"), Signer::elliptic("new"));
    let issuer = Loopback::start(json!({"keys": [old.listed()]})).await;
    let process = Process::start(|_| {});
    let table = table(vec![route("a/r", "h", &issuer.source(), "oid")]);
    let verifier = process.verifier(&table);
    let claims = of(&issuer, |_| {});
    let (by_old, by_new) = (old.sign(&claims), new.sign(&claims));
    assert_eq!(vouch(&verifier, &table, "h", &by_old).await, "a/9f8e");
    *issuer.keys.lock() = json!({"keys": [new.listed()]});
    // The unknown key has the set fetched.
    assert_eq!(vouch(&verifier, &table, "h", &by_new).await, "a/9f8e");
    let refused = Code::InvalidCredential.as_str();
    assert_eq!(vouch(&verifier, &table, "h", &by_old).await, refused);
}

#[tokio::test]
async fn tables_share_a_verifier_and_keys_as_long_as_they_list_the_same() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let process = Process::start(|_| {});
    let source = issuer.source();
    let first = table(vec![route("a/r", "h", &source, "oid")]);
    let verifier = process.verifier(&first);
    let token = signer.sign(&of(&issuer, |_| {}));
    assert_eq!(vouch(&verifier, &first, "h", &token).await, "a/9f8e");
    let same = process.issuers.verifier(&first, Some(&verifier)).unwrap();
    assert!(Arc::ptr_eq(&same, &verifier));
    let second = table(vec![route("a/r", "h", &source, "aud")]);
    let other = process.issuers.verifier(&second, Some(&verifier)).unwrap();
    assert_eq!(
        vouch(&other, &second, "h", &token).await,
        format!("a/{AUDIENCE}")
    );
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
    let none = table(Vec::new());
    assert!(process.issuers.verifier(&none, Some(&other)).is_none());
    assert!(
        !process
            .metrics()
            .contains("issuer_keys_fetched_timestamp_seconds{")
    );
}

#[tokio::test]
async fn keys_come_from_no_address_that_the_installation_closes() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let process = Process::within(Reach::default(), |_| {});
    let table = table(vec![route("a/r", "h", &issuer.source(), "oid")]);
    let verifier = process.verifier(&table);
    let token = signer.sign(&of(&issuer, |_| {}));
    let refused = Code::InvalidCredential.as_str();
    assert_eq!(vouch(&verifier, &table, "h", &token).await, refused);
    assert!(issuer.heads.lock().is_empty());
}

#[tokio::test]
async fn kept_keys_judge_while_the_issuer_is_away() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let folder = tempfile::tempdir().unwrap();
    let keep = |config: &mut Config| config.issuer_keys = Some(folder.path().join("keys"));
    let table = table(vec![route("a/r", "h", &issuer.source(), "oid")]);
    let token = signer.sign(&of(&issuer, |_| {}));
    let process = Process::start(keep);
    let verifier = process.verifier(&table);
    assert_eq!(vouch(&verifier, &table, "h", &token).await, "a/9f8e");
    let kept = || std::fs::read_dir(folder.path().join("keys")).map_or(0, Iterator::count);
    while kept() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(process);
    let file = std::fs::read_dir(folder.path().join("keys"))
        .unwrap()
        .next();
    let mode = file
        .unwrap()
        .unwrap()
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "whoever writes there decides");
    *issuer.keys.lock() = Value::Null;
    *issuer.description.lock() = Value::Null;
    let process = Process::start(keep);
    let verifier = process.verifier(&table);
    assert_eq!(vouch(&verifier, &table, "h", &token).await, "a/9f8e");
}

#[tokio::test]
async fn the_own_token_is_shown_to_the_api_server_alone() {
    let signer = Signer::elliptic("a");
    let server = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let other = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "own-token\n").unwrap();
    let process = Process::start(|config| {
        config.api_server = Some(ApiServer {
            address: server.url.parse().unwrap(),
            roots: Roots::Text("".into()),
            token_file,
        });
    });
    let routes = vec![
        route("a/r", "one", &server.source(), "oid"),
        route("a/s", "two", &other.source(), "oid"),
    ];
    let table = table(routes);
    let verifier = process.verifier(&table);
    for (issuer, host) in [(&server, "one"), (&other, "two")] {
        let token = signer.sign(&of(issuer, |_| {}));
        assert_eq!(vouch(&verifier, &table, host, &token).await, "a/9f8e");
    }
    let shown = |issuer: &Loopback| {
        let heads = issuer.heads.lock();
        let count = heads
            .iter()
            .filter(|head| head.contains("Bearer own-token"))
            .count();
        (count, heads.len())
    };
    assert_eq!(shown(&server), (2, 2));
    assert_eq!(shown(&other), (0, 2));
}
