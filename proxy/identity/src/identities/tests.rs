use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_admin::shutdown::{self, Trigger};
use proxy_core::names::Secret;
use proxy_core::table::{Identity, Principal};
use tests_foundry::{
    App, Assignment, CLIENT, Config as SimConfig, Directory, Fault, SECRET, Sim, TENANT,
};

use super::Identities;
use crate::address::Address;
use crate::bearer::Bearer;
use crate::config::Config;
use crate::credential::Credential;
use crate::failure::NoToken;
use crate::metrics::Metrics;

const SOON: Duration = Duration::from_secs(10);

struct World {
    sim: Sim,
    identities: Arc<Identities>,
    registry: Registry,
    _trigger: Trigger,
}

fn world() -> World {
    let sim = Sim::start(&SimConfig::default()).unwrap();
    let config = Config::new(
        sim.url().parse().unwrap(),
        Address::on_machine(&sim.url()).unwrap(),
    );
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let identities = Arc::new(Identities::new(config, metrics));
    let (trigger, shutdown) = shutdown::channel();
    proxy_admin::task::spawn("identities", Arc::clone(&identities).run(shutdown));
    World {
        sim,
        identities,
        registry,
        _trigger: trigger,
    }
}

fn application(secret: &str) -> Identity {
    Identity {
        principal: Principal::Application {
            tenant_id: TENANT.into(),
            client_id: CLIENT.into(),
            secret: Secret::new(secret),
        },
        scope: "https://ai.azure.com/.default".into(),
    }
}

async fn ready(credential: &Credential) -> Result<Arc<Bearer>, NoToken> {
    credential.ready(clock::instant() + SOON).await
}

fn metrics(world: &World) -> String {
    let mut page = String::new();
    encode(&mut page, &world.registry).unwrap();
    page
}

#[tokio::test]
async fn requests_that_come_before_the_first_token_make_one_call() {
    let world = world();
    let slow = Fault {
        delay_ms: Some(100),
        ..Fault::default()
    };
    world.sim.entra_faults(vec![slow]).unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let credential = world.identities.credential(&application(SECRET), None);
        waiting.spawn(async move { ready(&credential).await.unwrap().value().clone() });
    }
    let mut values = waiting.join_all().await;
    values.dedup();
    assert_eq!(values.len(), 1);
    assert_eq!(world.sim.requests().len(), 1);
}

#[tokio::test]
async fn an_identity_that_is_dropped_is_forgotten_and_its_series_too() {
    let world = world();
    let credential = world.identities.credential(&application(SECRET), None);
    ready(&credential).await.unwrap();
    let line = "backend_token_end_timestamp_seconds{type=\"ClientSecret\"";
    assert!(metrics(&world).contains(line), "{}", metrics(&world));
    // Another secret has the same series.
    let next = world.identities.credential(&application("other"), None);
    drop(credential);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(metrics(&world).contains(line));
    drop(next);
    let gone = async {
        while metrics(&world).contains(line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_who_show_it() {
    let world = world();
    let credential = world.identities.credential(&application(SECRET), None);
    let refused = ready(&credential).await.unwrap();
    world.sim.clear_requests();
    let until = clock::instant() + SOON;
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (credential, refused) = (Arc::clone(&credential), Arc::clone(&refused));
        set.spawn(async move { credential.renewed(&refused, until).await });
    }
    while let Some(renewed) = set.join_next().await {
        let renewed = renewed.unwrap().expect("another token");
        assert!(!renewed.is_same(&refused));
    }
    assert_eq!(world.sim.requests().len(), 1);
    // Within the minute there is no other, and no wait.
    let second = ready(&credential).await.unwrap();
    let began = clock::instant();
    assert!(credential.renewed(&second, until).await.is_none());
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(world.sim.requests().len(), 1);
}

#[tokio::test]
async fn a_machine_that_hands_out_the_same_token_renews_nothing() {
    let world = world();
    let identity = Identity {
        principal: Principal::Managed { client_id: None },
        scope: "https://ai.azure.com/.default".into(),
    };
    let credential = world.identities.credential(&identity, None);
    let refused = ready(&credential).await.unwrap();
    let until = clock::instant() + SOON;
    assert!(credential.renewed(&refused, until).await.is_none());
    assert_eq!(world.sim.requests().len(), 2);
    assert!(ready(&credential).await.unwrap().is_same(&refused));
}

#[tokio::test]
async fn a_rotated_secret_shows_the_old_token_until_the_new_one_comes() {
    let world = world();
    let before = world.identities.credential(&application(SECRET), None);
    let old = ready(&before).await.unwrap();
    let hang = Fault {
        hang: true,
        ..Fault::default()
    };
    world.sim.entra_faults(vec![hang]).unwrap();
    let after = world
        .identities
        .credential(&application("next"), Some(&before));
    drop(before);
    assert!(ready(&after).await.unwrap().is_same(&old));
    // Nothing is taken over from another application, or without a predecessor.
    let mut other = application("next");
    other.scope = "https://cognitiveservices.azure.com/.default".into();
    let other = world.identities.credential(&other, Some(&after));
    assert!(other.bearer(clock::instant()).is_none());
    let fresh = world.identities.credential(&application("third"), None);
    assert!(fresh.bearer(clock::instant()).is_none());
}

#[tokio::test]
async fn a_second_failure_is_told_and_ends_when_the_directory_changes() {
    let world = world();
    world.sim.directory(Directory {
        apps: Vec::new(),
        ..Directory::default()
    });
    let identity = Identity {
        principal: Principal::Managed { client_id: None },
        scope: "https://ai.azure.com/.default".into(),
    };
    let not_yet = Fault {
        status: Some(404),
        ..Fault::default()
    };
    world.sim.entra_faults(vec![not_yet]).unwrap();
    let credential = world.identities.credential(&identity, None);
    let failure = ready(&credential).await.unwrap_err();
    assert_eq!(failure.word(), "the token endpoint answered 404");
    assert_eq!(world.sim.requests().len(), 2, "one failure may pass");
    world.sim.entra_faults(Vec::new()).unwrap();
    assert!(metrics(&world).contains("outcome=\"refused\""));
    world.sim.directory(Directory {
        apps: vec![App {
            client_id: CLIENT.to_owned(),
            machine: Some(Assignment::User),
            ..App::default()
        }],
        ..Directory::default()
    });
    let recovered = async {
        while credential.bearer(clock::instant()).is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, recovered).await.unwrap();
    assert!(metrics(&world).contains("outcome=\"ok\""));
}
