use std::pin::pin;
use std::task::{Context, Waker};

use super::channel;

fn is_ready(wait: impl Future<Output = ()>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(wait).poll(&mut context).is_ready()
}

#[test]
fn each_stage_includes_those_before_it_and_none_is_left_again() {
    let (trigger, mut shutdown) = channel();
    assert!(!shutdown.is_leaving());
    assert!(!is_ready(shutdown.leaving()));
    trigger.leave();
    assert!(shutdown.is_leaving() && !shutdown.is_requested());
    assert!(is_ready(shutdown.leaving()));
    assert!(!is_ready(shutdown.draining()));
    trigger.stop();
    trigger.leave();
    trigger.drain();
    assert!(shutdown.is_requested() && !shutdown.is_cutting());
    assert!(is_ready(shutdown.requested()));
    assert!(is_ready(shutdown.draining()));
    trigger.cut();
    assert!(is_ready(shutdown.cutting()));
}

#[test]
fn a_dropped_trigger_asks_to_stop_and_cuts_nothing() {
    let (trigger, mut shutdown) = channel();
    drop(trigger);
    assert!(shutdown.is_requested());
    assert!(is_ready(shutdown.requested()));
    assert!(!is_ready(shutdown.cutting()));
}

#[tokio::test]
async fn a_change_wakes_every_waiting_task() {
    let (trigger, shutdown) = channel();
    let waiting = [shutdown.clone(), shutdown]
        .map(|mut shutdown| crate::task::spawn("waits", async move { shutdown.requested().await }));
    tokio::task::yield_now().await;
    trigger.leave();
    tokio::task::yield_now().await;
    assert!(waiting.iter().all(|task| !task.is_finished()));
    trigger.stop();
    for task in waiting {
        task.await.expect("it ends");
    }
}
