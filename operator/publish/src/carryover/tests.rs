use super::level;

/// The carryover, and how much the replicas may still admit with it.
fn check(amount: u64, used: &[u64], gone: u64) -> (u64, u64) {
    let replicas = u64::try_from(used.len()).unwrap();
    let carried = level(amount, replicas, used, gone);
    let room = |used: &u64| (amount / replicas).saturating_sub(carried + used);
    (carried, used.iter().map(room).sum())
}

#[test]
fn replicas_within_their_share_carry_nothing() {
    assert_eq!(check(100, &[0], 0), (0, 100));
    assert_eq!(check(100, &[33, 10, 0], 0), (0, 23 + 33));
    assert_eq!(check(0, &[0, 0], 0), (0, 0));
}

#[test]
fn use_of_departed_replicas_is_divided_and_rounded_up() {
    assert_eq!(check(100, &[0], 40), (40, 60));
    assert_eq!(check(100, &[0, 0], 41), (21, 58));
    assert_eq!(check(100, &[30, 0], 40), (20, 30));
}

#[test]
fn the_others_make_up_for_a_replica_above_its_share() {
    // One alone had used 80 of 100 before the second came.
    assert_eq!(check(100, &[80, 0], 0), (30, 20));
    assert_eq!(check(100, &[120, 0], 0), (50, 0));
    assert_eq!(check(100, &[45, 0], 40), (35, 15));
}

proptest::proptest! {
    #[test]
    fn the_room_of_all_replicas_is_what_is_left_or_slightly_less(
        amount in 0..1_000_000u64,
        used in proptest::collection::vec(0..300_000u64, 1..12),
        gone in 0..1_200_000u64,
    ) {
        let (carried, room) = check(amount, &used, gone);
        let sum: u64 = used.iter().sum::<u64>() + gone;
        let left = amount.saturating_sub(sum);
        let replicas = u64::try_from(used.len()).unwrap();
        proptest::prop_assert!(room <= left, "{room} of {left}");
        if carried > 0 {
            proptest::prop_assert!(room + replicas > left, "{room} of {left}");
        }
    }
}
