use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use proxy_admin::{shutdown, task};

use super::*;
use crate::metrics::Metrics;

#[tokio::test(start_paused = true)]
async fn an_address_is_out_of_reach_after_half_a_minute_and_said_to_be_once() {
    let mut contact = Contact::default();
    let address = "10.0.0.1:8443".parse().expect("it is an address");
    contact.lost(address, None);
    assert!(!contact.warned);
    tokio::time::advance(QUIET).await;
    contact.lost(address, None);
    assert!(contact.warned);
    let since = contact.lost.expect("it is lost");
    assert!(!contact.is_news(since), "it was said");
    contact.made(address);
    contact.lost(address, None);
    assert!(!contact.warned, "a new loss has its own half minute");
}

/// What the sink hears within three looks after a contact that is this old.
async fn hears(age: Duration, oldest: Option<Duration>) -> Vec<bool> {
    let said = Arc::<Mutex<Vec<bool>>>::default();
    let heard = Arc::clone(&said);
    let sink = move |update| {
        if let Update::Stale(stale) = update {
            heard.lock().push(stale);
        }
    };
    let metrics = Metrics::register(&mut Registry::default());
    let current = Arc::new(Current::new(Box::new(sink), metrics));
    let (trigger, shutdown) = shutdown::channel();
    let start = Instant::now();
    let back = LOOK * 3 + LOOK / 2;
    let age = move || {
        let passed = start.elapsed();
        if passed < back {
            age + passed
        } else {
            passed - back
        }
    };
    let watching = task::spawn("contact", watch(current, age, oldest, shutdown));
    sleep(back).await;
    sleep(LOOK * 2).await;
    trigger.stop();
    watching.await.expect("it ends");
    said.lock().clone()
}

#[tokio::test(start_paused = true)]
async fn a_table_is_stale_from_the_largest_age_on_until_there_is_contact() {
    let hour = Duration::from_secs(3_600);
    assert_eq!(hears(hour, Some(hour)).await, [true, true, true, false]);
    assert!(hears(hour, Some(hour * 2)).await.is_empty());
    assert!(hears(hour, None).await.is_empty());
}
