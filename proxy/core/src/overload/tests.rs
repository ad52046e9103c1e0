use proptest::prelude::*;

use super::*;
use crate::test_util::rule;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn classes(some: &[Class]) -> Classes {
    let rules: Vec<Rule> = some
        .iter()
        .map(|class| Rule {
            class: *class,
            ..rule("r", Vec::new())
        })
        .collect();
    Classes::of(&rules)
}

/// One whose round is spent, behind a refusal: there are no bursts.
fn spent<T>() -> Gate<T> {
    let mut gate = Gate {
        alert_until: ms(60_000),
        ..Gate::default()
    };
    while gate.opens() {}
    gate
}

/// Everything that becomes of those that wait in a round.
fn round<T>(gate: &mut Gate<T>, now: Duration, lasted: Duration) -> Vec<Next<T>> {
    gate.round(now, lasted, FEW + 1);
    std::iter::from_fn(|| gate.next(now)).collect()
}

#[test]
fn some_begin_at_once_in_each_round() {
    let mut gate: Gate<()> = Gate::default();
    for _ in 0..3 {
        let opened = (0..100).filter(|_| gate.opens()).count();
        assert_eq!(u32::try_from(opened), Ok(BEGIN));
        assert!(gate.is_spent());
        gate.round(ms(1), ms(1), 100);
    }
}

#[test]
fn who_comes_later_does_not_begin_before_who_waits() {
    let mut gate = spent();
    gate.wait(Class::Standard, ms(0), 1).unwrap();
    gate.round(ms(1), ms(1), 100);
    assert!(!gate.opens());
    assert_eq!(gate.next(ms(1)), Some(Next::Begins(1)));
    assert!(gate.opens());
}

#[test]
fn the_highest_class_begins_first_and_in_it_the_oldest() {
    let mut gate = spent();
    for (number, class) in (0..).zip([Class::Batch, Class::Interactive, Class::Standard].repeat(2))
    {
        gate.wait(class, ms(number), number).unwrap();
    }
    let begun = round(&mut gate, ms(10), ms(1));
    assert_eq!(begun, [1, 4, 2, 5, 0, 3].map(Next::Begins));
    assert!(gate.is_empty());
}

#[test]
fn who_has_waited_for_too_long_is_refused_the_least_class_first_unless_few_wait() {
    let mut gate = spent();
    let none = LONGEST;
    for (number, time) in [(1, 0), (2, 1), (3, 20)] {
        gate.wait(Class::Batch, ms(time), number).unwrap();
    }
    for _ in 1..FREE {
        gate.wait(Class::Interactive, ms(0), 0).unwrap();
    }
    assert!(round(&mut gate, ms(49), none).is_empty());
    let refused = [1, 2].map(|ticket| Next::Refused(ticket, Class::Batch));
    assert_eq!(round(&mut gate, ms(60), none), refused);
    assert!(round(&mut gate, ms(5_000), none).is_empty());
    assert_eq!(round(&mut gate, ms(5_000), ms(1)), [Next::Begins(0); 16]);
}

#[test]
fn fewer_begin_behind_a_long_round_but_where_few_are_under_way() {
    let begun = |lasted, under_way| {
        let mut gate = spent::<()>();
        gate.round(ms(1), lasted, under_way);
        std::iter::from_fn(|| gate.opens().then_some(())).count()
    };
    assert_eq!(begun(LONG, 100), 16);
    assert_eq!(begun(ms(300), 100), 8);
    assert_eq!(begun(ms(499), 100), 1);
    assert_eq!(begun(LONGEST, 100), 0);
    assert_eq!(begun(LONGEST * 4, FEW), 16);
}

#[test]
fn a_burst_waits_and_what_becomes_no_less_is_an_overload() {
    let mut gate = Gate::default();
    while gate.opens() {}
    let come = |gate: &mut Gate<()>, now, count: usize| {
        let came = (0..count).filter(|_| gate.wait(Class::Standard, now, ()).is_ok());
        came.count()
    };
    assert_eq!(come(&mut gate, ms(0), 1_000), 1_000);
    let mut now = ms(0);
    // It takes longer than a burst, but becomes less.
    for _ in 0..8 {
        now += BURST / 2;
        assert_eq!(round(&mut gate, now, ms(1)), [Next::Begins(()); 16]);
        assert_eq!(come(&mut gate, now, 15), 15);
    }
    // As many come as begin.
    now += BURST;
    assert_eq!(round(&mut gate, now, ms(1)).len(), 16);
    assert_eq!(come(&mut gate, now, 16), 16);
    now += BURST;
    let late = round(&mut gate, now, LONGEST);
    assert!(late.len() > 700 && late.contains(&Next::Refused((), Class::Standard)));
    assert_eq!(gate.waits(), FREE);
    // For a while one more is dealt with at once.
    now += ALERT / 2;
    assert_eq!(come(&mut gate, now, 1), 0);
    now += ALERT;
    assert_eq!(round(&mut gate, now, LONGEST), []);
    assert_eq!(come(&mut gate, now, 1), 1);
}

#[test]
fn who_would_wait_for_too_long_is_refused_at_once() {
    let come = |gate: &mut Gate<()>, class, now, count: usize| {
        let came = (0..count).filter(|_| gate.wait(class, now, ()).is_ok());
        came.count()
    };
    // With 48 begun in the time that one may wait, and 252 that wait.
    let mut gate = spent();
    assert_eq!(come(&mut gate, Class::Standard, ms(0), 300), 300);
    for time in [20, 40, 60] {
        assert_eq!(round(&mut gate, ms(time), ms(20)).len(), 16);
    }
    assert_eq!(come(&mut gate, Class::Standard, ms(61), 20), 4);
    assert_eq!(come(&mut gate, Class::Batch, ms(61), 20), 0);
    assert_eq!(come(&mut gate, Class::Interactive, ms(61), 300), FREE);
    // With 320 begun in that time, which is more than are free to wait.
    let mut gate = spent();
    assert_eq!(come(&mut gate, Class::Standard, ms(0), 336), 336);
    for time in 1..=20 {
        assert_eq!(round(&mut gate, ms(time), ms(1)).len(), 16);
    }
    gate.round(ms(50), ms(1), FEW + 1);
    assert_eq!(come(&mut gate, Class::Standard, ms(50), 1_000), 304);
}

#[test]
fn the_share_of_the_refused_follows() {
    let mut gate = spent();
    for _ in 0..1_000 {
        gate.wait(Class::Standard, ms(0), ()).unwrap();
    }
    round(&mut gate, ms(100), LONGEST);
    assert!(gate.refused() > ALL / 10 * 9, "{}", gate.refused());
    assert!(gate.refused() <= ALL);
    while !gate.is_empty() {
        round(&mut gate, ms(200), ms(1));
    }
    for _ in 0..1_000 {
        gate.wait(Class::Standard, ms(200), ()).unwrap();
        round(&mut gate, ms(200), ms(1));
    }
    assert_eq!(gate.refused(), 0);
}

#[test]
fn only_a_single_class_is_the_only_one() {
    assert_eq!(classes(&[]).only(), None);
    assert_eq!(
        classes(&[Class::Batch, Class::Batch]).only(),
        Some(Class::Batch)
    );
    assert_eq!(classes(&[Class::Batch, Class::Standard]).only(), None);
}

proptest! {
    /// Each one that waits begins or is refused, once; none begins while a higher class waits, and no more than are
    /// free to wait are late by more than the round in which they are seen.
    #[test]
    fn none_is_lost_and_none_overtakes_a_higher_class(
        rounds in prop::collection::vec((prop::collection::vec(0_usize..3, 0..40), 0_u64..600), 1..60),
    ) {
        let mut gate: Gate<(u64, Class)> = Gate::default();
        let (mut came, mut went) = (0_usize, 0_usize);
        let mut now = ms(0);
        let mut waiting: Vec<(u64, Class)> = Vec::new();
        for (arrivals, lasted) in rounds {
            for class in arrivals {
                let class = Class::ALL[class];
                came += 1;
                let ticket = (u64::try_from(came).unwrap(), class);
                if gate.opens() {
                    prop_assert!(waiting.is_empty());
                    went += 1;
                } else {
                    match gate.wait(class, now, ticket) {
                        Ok(()) => waiting.push(ticket),
                        Err(_) => went += 1,
                    }
                }
            }
            now += ms(lasted);
            for next in round(&mut gate, now, ms(lasted)) {
                went += 1;
                let (ticket, begins) = match next {
                    Next::Begins(ticket) => (ticket, true),
                    Next::Refused(ticket, class) => {
                        prop_assert_eq!(ticket.1, class);
                        (ticket, false)
                    }
                };
                waiting.retain(|one| *one != ticket);
                let higher = waiting.iter().any(|(_, class)| *class > ticket.1);
                prop_assert!(!begins || !higher);
            }
            prop_assert_eq!(waiting.is_empty(), gate.is_empty());
        }
        prop_assert_eq!(came, went + waiting.len());
        let mut left = round(&mut gate, now + BURST, LONGEST);
        left.extend(round(&mut gate, now + BURST * 2, LONGEST));
        prop_assert_eq!(left.len(), waiting.len().saturating_sub(FREE));
    }
}
