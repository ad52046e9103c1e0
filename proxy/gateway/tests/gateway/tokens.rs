//! Backends without keys: the gateway shows them a token of Entra.

use std::time::Duration;

use anyhow::Result;
use proxy_admin::background::Background;
use proxy_admin::clock;
use proxy_core::names::Secret;
use proxy_core::table::{BackendAuth, Identity, Principal};
use serde_json::Value;
use tests_foundry::{App, CLIENT, Directory, Fault, Record, SECRET, Sim, TENANT};
use tests_support::http::Answer;
use tokio::task::JoinSet;

use super::bench::{Bench, at, chat, routed, sims};

/// A gateway in front of simulated Foundries, of which the first is called without a key, and is Entra too.
struct Keyless {
    bench: Bench,
    background: Background,
}

fn application(secret: &str) -> BackendAuth {
    BackendAuth::Identity(Identity {
        principal: Principal::Application {
            tenant_id: TENANT.into(),
            client_id: CLIENT.into(),
            secret: Secret::new(secret),
        },
        scope: "https://ai.azure.com/.default".into(),
    })
}

impl Keyless {
    fn start(count: usize, secret: &str, prepare: impl FnMut(&Sim)) -> Result<Self> {
        let sims = sims(count, &tests_foundry::Config::default())?;
        let entra = sims.first().expect("one").url();
        sims.iter().take(1).for_each(prepare);
        let mut backends: Vec<_> = sims.iter().map(|sim| at(&sim.url())).collect();
        backends.first_mut().expect("one").auth = application(secret);
        let contents = routed(backends, Vec::new());
        let bench = Bench::serve(sims, contents, |config| {
            config.identity.authority = entra.parse().expect("an address");
        })?;
        let mut background = Background::default();
        bench.gateway.start_background(&mut background);
        Ok(Self { bench, background })
    }

    fn sim(&self) -> &Sim {
        self.bench.sims.first().expect("one")
    }

    /// Many requests at once, each with the status of its answer.
    async fn ask_at_once(&self, count: usize) -> Result<Vec<u16>> {
        let mut asking = JoinSet::new();
        for index in 0..count {
            let url = format!("{}/v1/chat/completions", self.bench.url);
            let body = chat(index % 2 == 0).to_string();
            asking.spawn(async move {
                let headers = [("api-key", "ann-key")];
                tests_support::http::post_json(&url, &headers, body).await
            });
        }
        let answers: Result<Vec<Answer>> = asking.join_all().await.into_iter().collect();
        Ok(answers?.iter().map(|one| one.status).collect())
    }

    fn token_calls(&self) -> usize {
        let calls = self.sim().requests();
        calls.iter().filter(|one| is_token_call(one)).count()
    }

    async fn stop(self) {
        self.background.stop().await;
    }
}

fn is_token_call(record: &Record) -> bool {
    record.path.ends_with("/oauth2/v2.0/token")
}

fn error(answer: &Answer) -> (u16, String, String) {
    let body: Value = answer.json().expect("JSON");
    let text = |member: &str| {
        let text = body
            .pointer(&format!("/error/{member}"))
            .and_then(Value::as_str);
        text.expect("text").to_owned()
    };
    (answer.status, text("code"), text("message"))
}

#[tokio::test]
async fn a_backend_is_shown_the_token_and_nothing_else() -> Result<()> {
    let keyless = Keyless::start(1, SECRET, |_| {})?;
    for stream in [false, true] {
        assert_eq!(keyless.bench.ask(&chat(stream)).await?.status, 200);
    }
    let records = keyless.sim().requests();
    let calls = records.iter().filter(|one| !is_token_call(one));
    for call in calls {
        let shown = call.header("authorization").expect("a token");
        assert!(shown.starts_with("Bearer eyJ"), "{shown}");
        assert_eq!(call.header("api-key"), None);
        let expect = format!("entra-{CLIENT}");
        assert_eq!(call.key.as_deref(), Some(expect.as_str()));
    }
    keyless.stop().await;
    Ok(())
}

#[tokio::test]
async fn first_requests_wait_for_one_call_of_entra() -> Result<()> {
    let slow = |sim: &Sim| {
        let delay = Fault {
            delay_ms: Some(300),
            ..Fault::default()
        };
        sim.entra_faults(vec![delay]).expect("a good fault");
    };
    let keyless = Keyless::start(1, SECRET, slow)?;
    assert_eq!(keyless.ask_at_once(40).await?, vec![200; 40]);
    assert_eq!(keyless.token_calls(), 1);
    keyless.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_no_request_is_lost() -> Result<()> {
    let keyless = Keyless::start(1, SECRET, |_| {})?;
    assert_eq!(keyless.ask_at_once(4).await?, vec![200; 4]);
    keyless.sim().revoke_tokens();
    assert_eq!(keyless.ask_at_once(40).await?, vec![200; 40]);
    assert_eq!(keyless.token_calls(), 2);
    keyless.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_rotation_under_load_loses_no_request() -> Result<()> {
    let short = |sim: &Sim| {
        sim.directory(Directory {
            lifetime_s: 2,
            ..Directory::default()
        });
    };
    let keyless = Keyless::start(1, SECRET, short)?;
    let began = clock::instant();
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(5) {
        assert_eq!(keyless.ask_at_once(8).await?, vec![200; 8]);
        asked += 8;
    }
    assert!(asked > 100, "{asked}");
    let calls = keyless.token_calls();
    assert!((4..=8).contains(&calls), "{calls} tokens in 5 s");
    keyless.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_outage_of_entra_is_not_seen_while_the_token_lives() -> Result<()> {
    let short = |sim: &Sim| {
        sim.directory(Directory {
            lifetime_s: 6,
            ..Directory::default()
        });
    };
    let keyless = Keyless::start(1, SECRET, short)?;
    assert_eq!(keyless.ask_at_once(4).await?, vec![200; 4]);
    let away = Fault {
        status: Some(503),
        ..Fault::default()
    };
    keyless.sim().entra_faults(vec![away])?;
    // The refresh is due after 3 s, and fails.
    let began = clock::instant();
    while began.elapsed() < Duration::from_millis(4_800) {
        assert_eq!(keyless.ask_at_once(4).await?, vec![200; 4]);
    }
    assert!(keyless.token_calls() >= 2);
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let refused = error(&keyless.bench.ask(&chat(false)).await?);
    let message = "the gateway has no token for the backend: the token endpoint answered 503";
    assert_eq!(
        (refused.0, &*refused.1),
        (502, "backend_credential_refused")
    );
    assert_eq!(refused.2, message);
    keyless.sim().entra_faults(Vec::new())?;
    let back = tests_support::eventually("a token again", Duration::from_secs(15), async || {
        let answer = keyless.bench.ask(&chat(false)).await.ok()?;
        (answer.status == 200).then_some(())
    });
    back.await?;
    keyless.stop().await;
    Ok(())
}

#[tokio::test]
async fn when_a_token_ends_without_entra_the_other_backends_serve() -> Result<()> {
    let short = |sim: &Sim| {
        sim.directory(Directory {
            lifetime_s: 4,
            ..Directory::default()
        });
    };
    let keyless = Keyless::start(2, SECRET, short)?;
    assert_eq!(keyless.ask_at_once(4).await?, vec![200; 4]);
    let of_first = |record: &Record| {
        let key = record.key.as_deref();
        key.is_some_and(|key| key.starts_with("entra-"))
    };
    assert!(keyless.sim().requests().iter().any(of_first));
    let away = Fault {
        status: Some(503),
        ..Fault::default()
    };
    keyless.sim().entra_faults(vec![away])?;
    let tokenless = async || {
        assert_eq!(keyless.ask_at_once(2).await.ok()?, vec![200; 2]);
        keyless.bench.gateway.tokenless().into_iter().next()
    };
    let limit = Duration::from_secs(15);
    let (backend, why) = tests_support::eventually("its end", limit, tokenless).await?;
    assert_eq!(&*backend.to_string(), "ns/b0");
    assert!(why.contains("the token endpoint answered 503"), "{why}");
    assert_eq!(keyless.ask_at_once(10).await?, vec![200; 10]);
    keyless.sim().entra_faults(Vec::new())?;
    let last = |all: Vec<Record>| all.iter().map(|one| one.id).max();
    let before = last(keyless.sim().requests());
    let back = async || {
        assert_eq!(keyless.ask_at_once(2).await.ok()?, vec![200; 2]);
        let mut requests = keyless.sim().requests();
        requests.retain(of_first);
        (last(requests) > before).then_some(())
    };
    tests_support::eventually("a token again", limit, back).await?;
    keyless.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_new_token_brings_back_a_backend_that_refused_the_one_before() -> Result<()> {
    let short = |sim: &Sim| {
        sim.directory(Directory {
            lifetime_s: 4,
            ..Directory::default()
        });
    };
    let keyless = Keyless::start(2, SECRET, short)?;
    let refuses = Fault {
        operation: Some("ChatCompletions_Create".to_owned()),
        status: Some(401),
        ..Fault::default()
    };
    keyless.sim().faults(vec![refuses])?;
    let of_first = |record: &Record| record.path.ends_with("/chat/completions");
    let asked = || {
        keyless
            .sim()
            .requests()
            .into_iter()
            .filter(of_first)
            .count()
    };
    let limit = Duration::from_secs(15);
    let out = async || {
        let before = asked();
        assert_eq!(keyless.ask_at_once(8).await.ok()?, vec![200; 8]);
        (before > 0 && asked() == before).then_some(())
    };
    tests_support::eventually("it is out", limit, out).await?;
    keyless.sim().faults(Vec::new())?;
    let before = asked();
    let back = async || {
        assert_eq!(keyless.ask_at_once(2).await.ok()?, vec![200; 2]);
        (asked() > before + 2).then_some(())
    };
    tests_support::eventually("the next token", limit, back).await?;
    keyless.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_refusal_of_entra_has_its_number_and_the_next_backend_serves() -> Result<()> {
    let alone = Keyless::start(1, "wrong", |_| {})?;
    let answer = alone.bench.ask(&chat(false)).await?;
    let refused = error(&answer);
    assert_eq!(
        (refused.0, &*refused.1),
        (502, "backend_credential_refused")
    );
    assert!(refused.2.ends_with("AADSTS7000215"), "{}", refused.2);
    alone.bench.quiet().await?;
    let counted = alone.bench.counted("backend_token_requests_total");
    assert!(counted[0].contains("outcome=\"refused\""), "{counted:?}");
    alone.stop().await;
    let two = Keyless::start(2, "wrong", |_| {})?;
    assert_eq!(two.ask_at_once(10).await?, vec![200; 10]);
    two.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_identity_without_a_role_is_not_passed_on_as_the_clients_fault() -> Result<()> {
    let without_role = |sim: &Sim| {
        let mut directory = Directory::default();
        directory.apps[0] = App {
            without_role: true,
            ..directory.apps[0].clone()
        };
        sim.directory(directory);
    };
    let keyless = Keyless::start(1, SECRET, without_role)?;
    for _ in 0..3 {
        let refused = error(&keyless.bench.ask(&chat(false)).await?);
        assert_eq!(
            (refused.0, &*refused.1),
            (502, "backend_credential_refused")
        );
        assert!(refused.2.ends_with("PermissionDenied"), "{}", refused.2);
    }
    assert_eq!(keyless.token_calls(), 2, "one renewal a minute");
    keyless.stop().await;
    let two = Keyless::start(2, SECRET, without_role)?;
    assert_eq!(two.ask_at_once(10).await?, vec![200; 10]);
    two.stop().await;
    Ok(())
}
