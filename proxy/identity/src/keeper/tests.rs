use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_admin::shutdown;
use proxy_core::names::Secret;
use proxy_core::table::{Identity, Principal};
use tokio::time::Instant;

use super::Keeper;
use crate::answer::Token;
use crate::credential::Credential;
use crate::failure::NoToken;
use crate::metrics::Metrics;

const HOUR: Duration = Duration::from_secs(3600);

fn keeper() -> (Credential, Keeper, Registry) {
    let identity = Arc::new(Identity {
        principal: Principal::Managed { client_id: None },
        scope: "https://ai.azure.com/.default".into(),
    });
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (trigger, shutdown) = shutdown::channel();
    let credential = Credential::new(Arc::clone(&identity), None, trigger);
    let keeper = Keeper {
        metrics: metrics.of(&identity),
        shared: Arc::clone(&credential.shared),
        identity,
        shutdown,
    };
    (credential, keeper, registry)
}

fn token(number: u32, lives: Duration) -> Token {
    Token {
        secret: Secret::new(format!("token-{number}")),
        lives,
    }
}

fn away() -> NoToken {
    NoToken::Unreachable {
        host: "login.microsoftonline.com".to_owned(),
        reason: "no connection in time".to_owned(),
    }
}

fn shown(credential: &Credential) -> Option<String> {
    let bearer = credential.bearer(clock::instant())?;
    Some(bearer.value().to_str().unwrap().to_owned())
}

/// Fetches by `script`, which is asked with the number of the fetch and the time since the start.
fn start(
    keeper: Keeper,
    script: impl Fn(u32, Duration) -> Result<Token, NoToken> + Send + Sync + 'static,
) -> Arc<AtomicU32> {
    let fetches = Arc::new(AtomicU32::new(0));
    let (counted, began) = (Arc::clone(&fetches), Instant::now());
    proxy_admin::task::spawn("keeper", async move {
        let fetch = || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(script(number, began.elapsed()))
        };
        keeper.run(fetch).await;
    });
    fetches
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_at_half_of_its_life() {
    let (credential, keeper, _registry) = keeper();
    let fetches = start(keeper, |number, _| Ok(token(number, HOUR)));
    for expect in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(shown(&credential), Some(format!("Bearer token-{expect}")));
        assert_eq!(fetches.load(Ordering::Relaxed), expect + 1);
        // Between the latest and the earliest time of the next.
        let next = fetches.load(Ordering::Relaxed);
        while fetches.load(Ordering::Relaxed) == next {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_entra_costs_nothing_while_the_token_lives() {
    let (credential, keeper, _registry) = keeper();
    let outage = HOUR..2 * HOUR;
    let within = outage.clone();
    let fetches = start(keeper, move |number, since| {
        if within.contains(&since) {
            Err(away())
        } else {
            Ok(token(number, 3 * HOUR))
        }
    });
    let began = Instant::now();
    let mut tried = 0;
    while began.elapsed() < 3 * HOUR {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(shown(&credential).is_some(), "{:?}", began.elapsed());
        if began.elapsed() < outage.end {
            tried = fetches.load(Ordering::Relaxed);
        }
    }
    // The refresh is due at 1.35 to 1.65 h; from then on every half minute.
    assert!((2..130).contains(&tried), "{tried}");
    assert_ne!(shown(&credential).unwrap(), "Bearer token-0", "it is back");
    let after = fetches.load(Ordering::Relaxed);
    assert!(
        after <= tried + 2,
        "{after} fetches, {tried} before the end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_is_not_shown() {
    let (credential, keeper, _registry) = keeper();
    start(keeper, |number, _| match number {
        0 => Ok(token(0, HOUR)),
        _ => Err(away()),
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = clock::instant();
    assert!(
        credential
            .bearer(now + HOUR - Duration::from_secs(11))
            .is_some()
    );
    assert!(
        credential
            .bearer(now + HOUR - Duration::from_secs(9))
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_by_itself_is_asked_for_rarely() {
    let (credential, keeper, _registry) = keeper();
    let fetches = start(keeper, |_, _| Err(NoToken::Unset("no client id")));
    let until = clock::instant() + Duration::from_secs(5);
    let refused = credential.ready(until).await.unwrap_err();
    assert_eq!(refused, NoToken::Unset("no client id"));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!((3..=5).contains(&fetches.load(Ordering::Relaxed)));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_credential() {
    let (credential, keeper, _registry) = keeper();
    let fetches = start(keeper, |number, _| Ok(token(number, HOUR)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(credential);
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
}
