use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time;

use super::Alarm;

/// The seconds on tokio's clock until the alarm is past `deadline`.
async fn waits(alarm: &mut Alarm, deadline: Instant) -> u64 {
    let began = time::Instant::now();
    poll_fn(|cx| alarm.poll_past(cx, deadline)).await;
    began.elapsed().as_secs()
}

/// Looks once, as a task does that has better things to do.
async fn looks(alarm: &mut Alarm, deadline: Instant) -> bool {
    poll_fn(|cx| Poll::Ready(alarm.poll_past(cx, deadline).is_ready())).await
}

#[tokio::test(start_paused = true)]
async fn an_alarm_follows_its_deadline_both_ways() {
    let start = time::Instant::now().into_std();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut alarm = Alarm::default();
    assert!(!looks(&mut alarm, at(60)).await);
    // Nearer, at once.
    assert_eq!(waits(&mut alarm, at(5)).await, 5);
    // A deadline that has passed stays passed.
    assert!(looks(&mut alarm, at(5)).await);
    assert!(looks(&mut alarm, at(3)).await);
    // Later, and still armed for a time that has passed.
    assert!(!looks(&mut alarm, at(20)).await);
    assert_eq!(waits(&mut alarm, at(30)).await, 25);
}
