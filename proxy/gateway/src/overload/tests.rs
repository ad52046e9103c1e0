use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use proxy_core::overload::FREE;

const LONG_AGO: Duration = Duration::from_secs(3);

fn overload() -> Overload {
    Overload::new(&Overloads::new(
        &Refused::register(&mut Registry::default()),
    ))
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets requests begin until one has to wait.
fn fill(overload: &Overload) {
    while overload.gate.lock().opens() {}
}

/// And as many wait as may without an end. Their clients have gone.
fn crowd(overload: &Overload) {
    fill(overload);
    let now = overload.shared.since_start(clock::instant());
    let mut gate = overload.gate.lock();
    for _ in 0..FREE {
        let (ticket, _) = oneshot::channel();
        gate.wait(Class::Interactive, now, ticket).unwrap();
    }
}

/// Two rounds, in which those that wait do not become fewer.
fn stands_still(overload: &Overload, then: Instant) {
    for past in [LONG_AGO / 2, Duration::ZERO] {
        assert!(overload.round(then - past, LONG_AGO, 100));
    }
}

#[test]
fn waits_for_a_round_and_begins() {
    let overload = overload();
    fill(&overload);
    let now = clock::instant();
    let mut waits = pin!(overload.admit(Class::Standard, now));
    assert!(poll(waits.as_mut()).is_pending());
    assert!(overload.strained.load(Ordering::Relaxed));
    assert!(!overload.round(now, Duration::ZERO, 100));
    assert!(matches!(poll(waits.as_mut()), Poll::Ready(Ok(()))));
}

#[test]
fn a_refusal_says_when_to_come_again_and_keeps_the_connection() {
    let overload = overload();
    crowd(&overload);
    let now = clock::instant();
    let mut waits = pin!(overload.admit(Class::Batch, now));
    assert!(poll(waits.as_mut()).is_pending());
    stands_still(&overload, now + LONG_AGO);
    let Poll::Ready(Err(refusal)) = poll(waits.as_mut()) else {
        panic!("it is not refused");
    };
    assert_eq!(refusal.denial.code, Code::Overloaded);
    assert!(matches!(refusal.wait, Some(Wait::Millis(1_000..=5_000))));
    assert!(!refusal.close);
    assert_eq!(
        overload.shared.refused.0.each_ref().map(Counter::get),
        [1, 0, 0]
    );
}

#[test]
fn lesser_classes_are_refused_on_all_cores_once_a_higher_one_is_on_one() {
    let busy = overload();
    let idle = Overload::new(&busy.shared);
    crowd(&busy);
    let now = clock::instant();
    let mut waits = pin!(busy.admit(Class::Standard, now));
    assert!(poll(waits.as_mut()).is_pending());
    let then = now + LONG_AGO;
    stands_still(&busy, then);
    let begins = |class, now| match poll(pin!(idle.admit(class, now))) {
        Poll::Ready(admitted) => admitted.is_ok(),
        Poll::Pending => panic!("it waits"),
    };
    let all = |now| Class::ALL.map(|class| begins(class, now));
    assert_eq!(all(then), [false, true, true]);
    assert_eq!(all(then + SHUT), [true, true, true]);
    assert_eq!(
        busy.shared.refused.0.each_ref().map(Counter::get),
        [1, 1, 0]
    );
}

#[test]
fn who_has_gone_is_not_counted() {
    let overload = overload();
    crowd(&overload);
    let now = clock::instant();
    {
        let mut waits = pin!(overload.admit(Class::Standard, now));
        assert!(poll(waits.as_mut()).is_pending());
    }
    stands_still(&overload, now + LONG_AGO);
    assert_eq!(overload.shared.unsaid.load(Ordering::Relaxed), 0);
}

#[test]
fn strain_ends_a_while_behind_the_last_refusal() {
    let overload = overload();
    overload.strained.store(true, Ordering::Relaxed);
    let then = clock::instant() + LONG_AGO;
    overload.count(Class::Standard, then);
    let is_strained = |past| {
        overload.look(then + past);
        overload.strained.load(Ordering::Relaxed)
    };
    assert!(is_strained(SHUT / 2));
    assert!(!is_strained(SHUT * 2));
}

#[test]
fn connections_that_wait_for_a_long_round_are_a_strain() {
    let overload = overload();
    overload.kept_waiting(WAIT / 2);
    assert!(!overload.strained.load(Ordering::Relaxed));
    overload.kept_waiting(WAIT);
    assert!(overload.strained.load(Ordering::Relaxed));
}
