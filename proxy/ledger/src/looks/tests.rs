use super::{LONGEST_MS, Looks, MOST, SHORTEST_MS};

#[test]
fn fewer_counters_are_followed_while_there_are_too_many() {
    let mut looks = Looks::default();
    assert_eq!((0..MOST).filter(|_| looks.take()).count(), MOST);
    looks.renew();
    assert_eq!(looks.within_ms, LONGEST_MS, "it was just enough");
    for _ in 0..10 {
        assert_eq!((0..2 * MOST).filter(|_| looks.take()).count(), MOST);
        looks.renew();
    }
    assert_eq!(looks.within_ms, SHORTEST_MS);
    for _ in 0..100 {
        assert!(looks.take());
        looks.renew();
    }
    assert_eq!(looks.within_ms, LONGEST_MS);
}
