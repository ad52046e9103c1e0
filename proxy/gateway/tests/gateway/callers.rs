//! Callers with tokens of Entra, through a gateway that knows the issuer by its keys alone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use proxy_admin::background::Background;
use proxy_core::auth::{Issuer, Mapping, Required, Source, Trust};
use proxy_core::names::ConsumerMatch;
use proxy_core::quota::{Limit, Per, Unit};
use proxy_core::route::Match;
use proxy_core::table::{Authentication, BackendAuth, Contents, Quota, Route, Rule, Table};
use proxy_core::test_util::{quota, target};
use serde_json::{Value, json};
use tests_foundry::{API, API_URI, AccessToken, CLIENT, Fault, Rotation, Sim, TENANT};
use tests_support::http::{self, Answer};
use tokio::task::JoinSet;

use super::bench::{Bench, at, chat, minute, routed, sims};

const USER: &str = "00000000-0000-4000-8000-0000000000aa";

/// A gateway whose route admits tokens of both of Entra's versions. The simulated Foundry is Entra, too.
struct World {
    bench: Arc<Bench>,
    background: Background,
    route: Route,
}

/// Entra as a route lists it.
fn entra(sim: &Sim, version: u8, required: Required) -> Issuer {
    let audience = if version == 1 { API_URI } else { API };
    Issuer {
        trust: Trust {
            source: Source {
                issuer: sim.issuer(version).into(),
                jwks_uri: None,
            },
            audiences: vec![audience.into()],
            mapping: Mapping {
                consumer: "azp".into(),
                attributes: vec![("role".into(), "roles".into())],
            },
        },
        required,
    }
}

impl World {
    fn start(limits: Vec<Limit>, change: impl FnOnce(&Sim, &mut Authentication)) -> Result<Self> {
        let sims = sims(1, &tests_foundry::Config::default())?;
        let sim = sims.first().context("one")?;
        let mut backend = at(&sim.url());
        let mut contents = routed(vec![backend.clone()], Vec::new());
        let mut route = Route::clone(contents.routes.first().context("one")?);
        route.authentication = Authentication {
            issuers: [1, 2]
                .map(|version| entra(sim, version, Required::default()))
                .into(),
            ..Authentication::default()
        };
        change(sim, &mut route.authentication);
        if route.authentication.pass_through {
            backend.auth = BackendAuth::PassThrough;
            contents = routed(vec![backend], Vec::new());
        }
        let quota = Quota {
            per: if limits.is_empty() {
                Vec::new()
            } else {
                vec![Per::Consumer]
            },
            ..quota("q", limits)
        };
        let backends = contents
            .backends
            .iter()
            .map(|one| (**one).clone())
            .collect();
        let keys = contents.keys.iter().map(|one| (**one).clone()).collect();
        let contents = Contents::new(backends, vec![route.clone()], vec![quota], keys);
        let authority = sim.url().parse()?;
        let bench = Bench::serve(sims, contents, |config| {
            config.identity.authority = authority
        })?;
        let mut background = Background::default();
        bench.gateway.start_background(&mut background);
        Ok(Self {
            bench: Arc::new(bench),
            background,
            route,
        })
    }

    fn sim(&self) -> &Sim {
        self.bench.sims.first().expect("one")
    }

    fn token(&self, change: impl FnOnce(&mut AccessToken)) -> Result<String> {
        let mut wanted = AccessToken::default();
        change(&mut wanted);
        Ok(self.sim().access_token(&wanted)?)
    }

    async fn ask(&self, credential: &str) -> Result<Answer> {
        ask(
            &self.bench,
            &[("authorization", &format!("Bearer {credential}"))],
        )
        .await
    }

    /// Puts a change of the route in force.
    fn publish(&self, change: impl FnOnce(&mut Route)) {
        let mut route = self.route.clone();
        change(&mut route);
        let sim = self.sim();
        let contents = routed(vec![at(&sim.url())], Vec::new());
        let backends = contents
            .backends
            .iter()
            .map(|one| (**one).clone())
            .collect();
        let contents = Contents::new(backends, vec![route], Vec::new(), Vec::new());
        self.bench.gateway.publish(Arc::new(Table::new(contents)));
    }

    /// Requests for keys that Entra has answered.
    fn key_calls(&self) -> usize {
        let calls = self.sim().requests();
        let keys = calls.iter().filter(|one| one.path.ends_with("/keys"));
        keys.count()
    }

    async fn stop(self) {
        self.background.stop().await;
    }
}

async fn ask(bench: &Bench, headers: &[(&str, &str)]) -> Result<Answer> {
    let body = chat(false).to_string();
    bench.post("/v1/chat/completions", headers, &body).await
}

fn code(answer: &Answer) -> String {
    let body: Value = answer.json().expect("JSON");
    let code = body.pointer("/error/code").and_then(Value::as_str);
    code.expect("a code").to_owned()
}

#[tokio::test]
async fn tokens_of_both_versions_are_one_consumer_and_reach_no_backend() -> Result<()> {
    let world = World::start(vec![minute(Unit::Requests, 4)], |_, _| {})?;
    let app = |version| move |token: &mut AccessToken| token.version = Some(version);
    for version in [1, 2] {
        let token = world.token(app(version))?;
        for _ in 0..2 {
            assert_eq!(world.ask(&token).await?.status, 200);
        }
    }
    // Of the next hour.
    let spent = world.ask(&world.token(app(2))?).await?;
    assert_eq!(
        (spent.status, code(&spent)),
        (429, "rate_limited".to_owned())
    );
    let calls = world.sim().requests();
    let calls: Vec<_> = calls
        .iter()
        .filter(|one| one.path.contains("chat"))
        .collect();
    assert_eq!(calls.len(), 4);
    assert!(
        calls
            .iter()
            .all(|call| call.header("authorization").is_none())
    );
    assert_eq!(world.key_calls(), 2, "one for each version");
    let consumer = format!("consumer=ns/{CLIENT}");
    let page = world.bench.gateway.usage_page();
    let subjects = page.limits.iter().flat_map(|limit| &limit.subjects);
    let subjects: Vec<String> = subjects.map(|one| one.subject.to_string()).collect();
    assert_eq!(subjects, [consumer]);
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_known_token_that_fails_is_refused_and_says_why() -> Result<()> {
    // Also where anybody may call, or pass a credential through.
    for way in ["keys", "anonymous", "pass through"] {
        let world = World::start(Vec::new(), |_, one| {
            one.anonymous = way == "anonymous";
            one.pass_through = way == "pass through";
        })?;
        let expired = world.token(|token| token.lifetime_s = -100)?;
        let early = world.token(|token| token.starts_s = 1_000)?;
        let good = world.token(|_| {})?;
        let (signed, signature) = good.rsplit_once('.').context("three parts")?;
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{signed}.{first}{}", signature.get(1..).context("ASCII")?);
        for (token, expect, says) in [
            (expired, "expired_credential", "has expired"),
            (early, "invalid_credential", "not valid yet"),
            (forged, "invalid_credential", "signature is wrong"),
        ] {
            let answer = world.ask(&token).await?;
            assert_eq!((answer.status, &*code(&answer)), (401, expect), "{way}");
            assert!(answer.text().contains(says), "{}", answer.text());
            let challenge = answer.header("www-authenticate").context("a challenge")?;
            if way == "keys" {
                let url = &world.bench.url;
                let expect = format!(
                    "Bearer realm=\"tundish\", error=\"invalid_token\", \
                     resource_metadata=\"{url}/.well-known/oauth-protected-resource\""
                );
                assert_eq!(challenge, expect);
            }
        }
        let chats = world.sim().requests();
        assert!(
            !chats.iter().any(|one| one.path.contains("chat")),
            "{way}: none was forwarded"
        );
        world.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn clients_find_the_issuers_of_a_host() -> Result<()> {
    let world = World::start(Vec::new(), |_, _| {})?;
    let url = format!("{}/.well-known/oauth-protected-resource", world.bench.url);
    let found = http::get(&url).await?;
    assert_eq!(found.status, 200);
    let issuers = [1, 2].map(|version| world.sim().issuer(version));
    assert_eq!(
        found.json::<Value>()?,
        json!({
            "resource": world.bench.url,
            "authorization_servers": issuers,
            "bearer_methods_supported": ["header"],
        })
    );
    let nothing = ask(&world.bench, &[]).await?;
    assert_eq!(code(&nothing), "missing_credential");
    let challenge = nothing.header("www-authenticate").context("a challenge")?;
    assert_eq!(
        challenge,
        format!("Bearer realm=\"tundish\", resource_metadata=\"{url}\"")
    );
    world.publish(|route| route.authentication.issuers.clear());
    assert_eq!(http::get(&url).await?.status, 404);
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn scopes_roles_and_clients_decide_per_route_and_claims_per_rule() -> Result<()> {
    let required = |scopes: &[&str], roles: &[&str], clients: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|one| (*one).into()).collect();
        Required {
            scopes: texts(scopes),
            roles: texts(roles),
            clients: texts(clients),
        }
    };
    let world = World::start(Vec::new(), |_, _| {})?;
    let user = world.token(|token| {
        token.user = Some(USER.to_owned());
        token.scopes = vec!["Chat.Use".to_owned(), "Files.Read".to_owned()];
        token.version = Some(2);
    })?;
    let app = world.token(|token| {
        token.roles = vec!["Chat.Admin".to_owned()];
        token.version = Some(1);
    })?;
    for (needed, user_may, app_may) in [
        (required(&["Chat.Use"], &[], &[]), true, false),
        (required(&[], &["Chat.Admin"], &[]), false, true),
        (required(&[], &[], &["x", CLIENT]), true, true),
        (required(&[], &[], &["x"]), false, false),
    ] {
        world.publish(|route| {
            for issuer in &mut route.authentication.issuers {
                issuer.required = needed.clone();
            }
        });
        for (token, may) in [(&user, user_may), (&app, app_may)] {
            let answer = world.ask(token).await?;
            let expect = if may { 200 } else { 403 };
            assert_eq!(answer.status, expect, "{needed:?}: {}", answer.text());
        }
    }
    world.publish(|route| {
        let admins = ConsumerMatch {
            attributes: vec![("role".into(), "Chat.Admin".into())],
            ..ConsumerMatch::default()
        };
        for rule in &mut route.rules {
            *rule = Arc::new(Rule {
                matches: vec![Match {
                    consumers: admins.clone(),
                    ..Match::default()
                }],
                targets: vec![target("b0")],
                ..Rule::clone(rule)
            });
        }
    });
    assert_eq!(world.ask(&app).await?.status, 200);
    assert_eq!(code(&world.ask(&user).await?), "model_not_found");
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn keys_rotate_under_load_and_an_issuer_that_is_away_costs_nothing() -> Result<()> {
    let world = World::start(Vec::new(), |_, _| {})?;
    assert_eq!(world.ask(&world.token(|_| {})?).await?.status, 200);
    let failed = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut load = JoinSet::new();
    for worker in 0..4 {
        let (bench, failed) = (Arc::clone(&world.bench), Arc::clone(&failed));
        load.spawn(async move {
            loop {
                let sim = bench.sims.first().expect("one");
                let token = sim.access_token(&AccessToken::default()).expect("a token");
                let bearer = format!("Bearer {token}");
                match ask(&bench, &[("authorization", &bearer)]).await {
                    Ok(answer) if answer.status == 200 => {}
                    other => failed.lock().push(format!("{worker}: {other:?}")),
                }
            }
        });
    }
    // The second one comes unannounced, as after a theft.
    for announced in [true, false] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let rotation = Rotation {
            announced,
            keeps_old: announced,
        };
        world.sim().rotate_keys(rotation)?;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let away = Fault {
        operation: Some("Entra_Keys".to_owned()),
        status: Some(503),
        ..Fault::default()
    };
    world.sim().entra_faults(vec![away])?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.shutdown().await;
    let failed = failed.lock().clone();
    // A token that the old key signed an instant before is not good any more.
    assert!(
        failed.len() <= 4,
        "{} failed: {:?}",
        failed.len(),
        failed.first()
    );
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn keys_of_a_listed_tenant_prove_who_passes_through() -> Result<()> {
    // Callers that are not proved share a tenth of this.
    for is_listed in [true, false] {
        let world = World::start(vec![minute(Unit::Tokens, 2_000)], |sim, one| {
            one.pass_through = true;
            one.issuers = vec![entra(sim, 1, Required::default())];
            if !is_listed {
                one.issuers.clear();
            }
        })?;
        let token = world.token(|token| {
            token.resource = "https://ai.azure.com".to_owned();
            token.user = Some(USER.to_owned());
            token.scopes = vec!["user_impersonation".to_owned()];
        })?;
        let slow = Fault {
            delay_ms: Some(1_000),
            ..Fault::default()
        };
        world.sim().faults(vec![slow])?;
        let bench = Arc::clone(&world.bench);
        let bearer = format!("Bearer {token}");
        let mut asking = JoinSet::new();
        asking.spawn(async move { ask(&bench, &[("authorization", &bearer)]).await });
        // Before Foundry has answered.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let page = world.bench.gateway.usage_page();
        let subjects = page.limits.iter().flat_map(|limit| &limit.subjects);
        let subjects: Vec<String> = subjects.map(|one| one.subject.to_string()).collect();
        let name = format!("consumer=entra-{USER}@{TENANT}");
        assert_eq!(subjects == [name], is_listed, "{subjects:?}");
        let answers = asking.join_all().await;
        assert!(answers.iter().flatten().all(|answer| answer.status == 200));
        world.stop().await;
    }
    Ok(())
}
