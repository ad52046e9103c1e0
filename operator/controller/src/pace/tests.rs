use kube::core::Status;

use super::*;

fn too_old() -> Error {
    Error::WatchError(Box::new(
        Status::failure("too old resource version", "Expired").with_code(410),
    ))
}

#[test]
fn no_pause_is_longer_than_a_second() {
    let mut pace = Pace::default();
    let mut now = Instant::now();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let pause = pace.after(false, now);
        now += pause;
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
}

#[test]
fn a_watch_that_has_run_for_a_while_starts_with_short_pauses() {
    let mut pace = Pace::default();
    let now = Instant::now();
    for _ in 0..6 {
        pace.after(false, now);
    }
    assert_eq!(pace.after(false, now + STEADY * 2), FIRST);
}

#[test]
fn a_version_that_is_too_old_costs_no_pause_unless_it_is_too_old_again_at_once() {
    assert!(is_too_old(&too_old()));
    let mut pace = Pace::default();
    let now = Instant::now();
    for _ in 0..6 {
        pace.after(false, now);
    }
    let later = now + LONGEST;
    assert_eq!(pace.after(true, later), Duration::ZERO);
    assert_eq!(pace.after(true, later), LONGEST);
}
