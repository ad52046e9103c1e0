use proptest::prelude::*;

use super::*;

const CAPACITY: u64 = 60_000;

fn at(ms: u64) -> Moment {
    Moment {
        monotonic_ms: ms,
        unix_ms: 0,
    }
}

#[test]
fn a_bucket_empties_by_its_capacity_in_a_minute() {
    let mut bucket = Bucket::default();
    assert_eq!(bucket.free(CAPACITY, at(5)), WHOLE);
    bucket.takes(54_000, CAPACITY, at(1_000));
    assert_eq!(bucket.free(CAPACITY, at(1_000)), 100);
    assert_eq!(bucket.free(CAPACITY, at(7_000)), 200);
    // It was less than reckoned, and then all of it was.
    bucket.corrects(54_000, 24_000, CAPACITY, at(7_000));
    assert_eq!(bucket.free(CAPACITY, at(7_000)), 700);
    bucket.told(1_050, CAPACITY, at(8_000));
    assert_eq!(bucket.free(CAPACITY, at(8_000)), 0);
    assert_eq!(bucket.free(CAPACITY, at(14_000)), 50);
    assert_eq!(bucket.free(CAPACITY, at(600_000)), WHOLE);
}

#[test]
fn what_is_cached_takes_nothing_and_output_more_than_input() {
    let usage = Usage {
        input_tokens: 1_000,
        cached_input_tokens: 900,
        output_tokens: 10,
        ..Usage::default()
    };
    assert_eq!(taken(usage, 8), 180);
}

#[test]
fn batch_gives_way_before_standard_and_standard_before_interactive() {
    let parts = |free| {
        let of = |class| part(class, class != Class::Interactive, free);
        Class::ALL.map(of)
    };
    assert_eq!(parts(200), [1_000, 1_000, 1_000]);
    assert_eq!(parts(165), [500, 1_000, 1_000]);
    assert_eq!(parts(130), [0, 1_000, 1_000]);
    assert_eq!(parts(100), [0, 500, 1_000]);
    assert_eq!(parts(70), [0, 0, 1_000]);
    assert_eq!(parts(35), [0, 0, 500]);
    assert_eq!(parts(0), [0, 0, LEAST]);
    // Without a higher class each is the highest one.
    for class in Class::ALL {
        assert_eq!(part(class, false, 100), WHOLE);
        assert_eq!(part(class, false, 0), LEAST);
    }
}

#[test]
fn a_class_that_gives_way_is_held_back_and_another_goes_where_nothing_else_can() {
    let rng = &mut rand::rng();
    let mut turns = |standing, class, has_higher, free| {
        let turn = |_| turn(standing, class, has_higher, free, rng);
        (0..400).map(turn).collect::<Vec<_>>()
    };
    let held = turns(Standing::In, Class::Batch, true, 130);
    assert!(held.iter().all(|turn| *turn == Turn::Yields));
    let alone = turns(Standing::In, Class::Batch, false, 50);
    assert!(alone.contains(&Turn::Usual) && alone.contains(&Turn::Spare));
    let due = Standing::Due(OutReason::Throttled);
    assert_eq!(turns(due, Class::Batch, true, WHOLE)[0], Turn::Yields);
    assert_eq!(turns(due, Class::Interactive, false, 0)[0], Turn::Usual);
    let failed = Standing::Due(OutReason::Failing);
    assert_eq!(turns(failed, Class::Batch, true, WHOLE)[0], Turn::Usual);
    let ramp = turns(Standing::Ramp(0.5), Class::Batch, true, WHOLE);
    assert!(ramp.contains(&Turn::Usual) && ramp.contains(&Turn::Yields));
}

proptest! {
    #[test]
    fn a_lower_class_never_takes_more_and_less_room_never_gives_more(free in 0..1_100u32, less in 0..200u32) {
        let of = |class, free| part(class, class != Class::Interactive, free);
        for (lower, higher) in [(Class::Batch, Class::Standard), (Class::Standard, Class::Interactive)] {
            prop_assert!(of(lower, free) <= of(higher, free));
            // Where a lower class is served at all, a higher one is served whole.
            prop_assert!(of(lower, free) == 0 || of(higher, free) == WHOLE);
        }
        for class in Class::ALL {
            prop_assert!(of(class, free.saturating_sub(less)) <= of(class, free));
        }
    }

    #[test]
    fn no_step_leaves_the_bounds(steps in prop::collection::vec((0..4u8, any::<u64>(), 0..100_000u64), 0..40), capacity in 1..u64::MAX) {
        let (mut bucket, mut ms) = (Bucket::default(), 0u64);
        for (step, number, later) in steps {
            ms += later;
            match step {
                0 => bucket.takes(number, capacity, at(ms)),
                1 => bucket.corrects(number, number / 3, capacity, at(ms)),
                2 => bucket.told(u32::try_from(number % 5_000).unwrap(), capacity, at(ms)),
                _ => bucket.takes(0, capacity, at(ms.saturating_sub(number))),
            }
            prop_assert!(bucket.free(capacity, at(ms)) <= WHOLE);
        }
    }
}
