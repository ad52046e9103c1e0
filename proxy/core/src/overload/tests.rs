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

fn any_classes() -> impl Strategy<Value = Classes> {
    prop::sample::subsequence(Class::ALL.to_vec(), 1..=3).prop_map(|some| classes(&some))
}

#[test]
fn refuses_nothing_before_a_wait_has_lasted() {
    let mut waits = Waits::default();
    assert!(waits.note(ms(0), ms(500)).is_none());
    assert!(waits.is_strained(ms(0)));
    assert!(waits.note(LASTS - ms(1), ms(500)).is_none());
    assert_eq!(waits.note(LASTS, ms(500)), Level(ALL));
}

#[test]
fn a_single_pause_refuses_nothing() {
    let mut waits = Waits::default();
    for second in 0..20 {
        assert!(waits.note(ms(second * 1_000), ms(900)).is_none());
        assert!(waits.note(ms(second * 1_000 + 10), ms(1)).is_none());
        assert!(!waits.is_strained(ms(second * 1_000 + 10)));
    }
}

#[test]
fn reacts_at_once_for_a_second_behind_an_overload() {
    let half = TARGET + (MOST - TARGET) / 2;
    let mut waits = Waits::default();
    waits.note(ms(0), half);
    assert_eq!(waits.note(LASTS, half), Level(ALL / 2));
    let later = |past| LASTS + ms(past);
    assert!(waits.note(later(10), ms(3)).is_none());
    assert!(waits.is_strained(later(900)));
    assert_eq!(waits.note(later(999), half), Level(ALL / 2));
    assert!(waits.note(later(1_100), ms(3)).is_none());
    assert!(!waits.is_strained(later(1_999)));
    assert!(waits.note(later(2_000), half).is_none());
}

#[test]
fn classes_share_the_way_to_the_most() {
    let all = classes(&Class::ALL);
    let parts = |level| Class::ALL.map(|class| Level(level).part_of(class, all));
    assert_eq!(parts(0), [0, 0, 0]);
    assert_eq!(parts(1_000), [3_000, 0, 0]);
    assert_eq!(parts(3_000), [ALL, 3_000, 0]);
    assert_eq!(parts(ALL), [ALL; 3]);
    let standard = classes(&[Class::Standard]);
    assert_eq!(standard.only(), Some(Class::Standard));
    assert_eq!(all.only(), None);
    assert_eq!(Level(ALL / 2).part_of(Class::Standard, standard), ALL / 2);
    // A caller that lowers its class.
    assert_eq!(Level(1).part_of(Class::Batch, standard), ALL);
}

#[test]
fn another_core_yields_what_has_yielded_to_a_higher_class() {
    let all = classes(&Class::ALL);
    let beside = |level| Class::ALL.map(|class| Level(level).beside(all).part_of(class, all));
    assert_eq!(beside(0), [0, 0, 0]);
    assert_eq!(beside(2_000), [0, 0, 0]);
    assert_eq!(beside(2_001), [ALL, 0, 0]);
    assert_eq!(beside(ALL), [ALL, ALL, 0]);
    assert_eq!(Level(ALL).beside(classes(&[Class::Standard])), Level(0));
}

proptest! {
    #[test]
    fn no_class_yields_while_a_lesser_one_is_served(waited in 0_u64..1_000, all in any_classes()) {
        let level = Level::of(ms(waited));
        let parts = Class::ALL.map(|class| level.part_of(class, all));
        let present = Class::ALL.into_iter().zip(parts).filter(|(class, _)| all.place(*class).is_some());
        let present: Vec<u32> = present.map(|(_, part)| part).collect();
        for pair in present.windows(2) {
            prop_assert!(pair[1] == 0 || pair[0] == ALL, "{parts:?}");
        }
    }

    #[test]
    fn more_is_refused_the_longer_the_wait(waited in 0_u64..1_000, more in 0_u64..250, all in any_classes()) {
        for class in Class::ALL {
            let part = |waited| Level::of(ms(waited)).part_of(class, all);
            prop_assert!(part(waited) <= part(waited + more));
        }
        prop_assert_eq!(Level::of(ms(waited)).is_none(), ms(waited) <= TARGET);
    }

    #[test]
    fn a_portion_is_as_large_as_it_says(part in 0_u32..=ALL) {
        let mut portion = Portion::default();
        let taken = (0..ALL).filter(|_| portion.takes(part)).count();
        prop_assert_eq!(u32::try_from(taken).unwrap(), part);
    }

    /// A core that does one thing after another, at `load` times what it can: the wait stays below what clients
    /// bear, and the work that is left to answers is nearly all that refusals leave.
    #[test]
    fn an_overloaded_core_answers_what_it_can(load in 11_u32..30, refusal in 5_u32..30) {
        let (load, refusal) = (f64::from(load) / 10.0, f64::from(refusal) / 100.0);
        // Beyond that refusals alone are nearly more than can be done.
        prop_assume!(load * refusal < 0.6);
        let standard = classes(&[Class::Standard]);
        let (mut waits, mut portion) = (Waits::default(), Portion::default());
        // All in milliseconds; an answer takes 50 microseconds.
        let (mut queue, mut now, mut part, mut answered, mut longest) = (0.0_f64, 0.0_f64, 0, 0_u32, 0.0_f64);
        let answer = 0.05;
        let mut next_look = 0.0;
        while now < 30_000.0 {
            // What comes joins the queue; a look takes as long as the queue is.
            now += answer / load;
            if now >= next_look {
                let level = waits.note(Duration::from_secs_f64(now / 1_000.0), Duration::from_secs_f64(queue / 1_000.0));
                part = level.part_of(Class::Standard, standard);
                next_look = now + 5.0 + queue;
            }
            let cost = if portion.takes(part) { answer * refusal } else { answered += 1; answer };
            queue = (queue + cost - answer / load).max(0.0);
            if now > 5_000.0 { longest = longest.max(queue); }
        }
        prop_assert!(longest < 4.0 * MOST.as_secs_f64() * 1_000.0, "{longest}");
        let possible = (1.0 - load * refusal) / (1.0 - refusal) / answer * 30_000.0;
        prop_assert!(f64::from(answered) > 0.9 * possible, "{answered} of {possible}");
    }
}
