use std::future::poll_fn;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::time::{Instant as Paused, advance};

use super::Alarm;

fn after(seconds: u64) -> Instant {
    (Paused::now() + Duration::from_secs(seconds)).into_std()
}

async fn is_past(alarm: &mut Alarm, deadline: Instant) -> bool {
    let past = poll_fn(|cx| alarm.poll_past(cx, deadline));
    past.now_or_never().is_some()
}

#[tokio::test(start_paused = true)]
async fn deadlines_move_both_ways() {
    let mut alarm = Alarm::default();
    let (near, far) = (after(10), after(20));
    assert!(!is_past(&mut alarm, near).await);
    assert!(!is_past(&mut alarm, far).await);
    advance(Duration::from_secs(11)).await;
    assert!(
        !is_past(&mut alarm, far).await,
        "it fired for the nearer one"
    );
    assert!(is_past(&mut alarm, near).await, "it was moved back");
    assert!(!is_past(&mut alarm, far).await);
    advance(Duration::from_secs(10)).await;
    assert!(is_past(&mut alarm, far).await);
    // An alarm that has fired serves a later deadline.
    let later = after(5);
    assert!(!is_past(&mut alarm, later).await);
    poll_fn(|cx| alarm.poll_past(cx, later)).await;
    assert!(Paused::now().into_std() >= later);
}
