use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn tokens_come_in_order_within_the_second_half(
        start in 0..1_000_u64, length in 0..100_000_u64, count in 1..500_u64,
    ) {
        let schedule = Schedule {
            start: Duration::from_millis(start),
            length: Duration::from_millis(length),
        };
        let dues: Vec<Duration> = (0..count).map(|index| schedule.token(index, count)).collect();
        prop_assert!(dues.is_sorted());
        prop_assert!(dues.iter().all(|due| *due >= schedule.taken_up() && *due <= schedule.end()));
    }
}
