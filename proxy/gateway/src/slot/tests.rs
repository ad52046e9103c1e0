use std::sync::Arc;

use super::{FOLLOWED, FOLLOWED_OF_ONE, PLACES, Place};

#[test]
fn one_consumer_has_a_part_of_the_places() {
    let take = |name: &str| Place::take(&Arc::from(name));
    let of_one: Vec<_> = (0..FOLLOWED_OF_ONE).map(|_| take("a/ann")).collect();
    assert!(of_one.iter().all(Option::is_some));
    assert!(take("a/ann").is_none());
    let others = (FOLLOWED_OF_ONE..FOLLOWED).map(|number| take(&format!("a/{}", number % 9)));
    let others: Vec<_> = others.collect();
    assert!(others.iter().all(Option::is_some));
    assert!(take("a/bob").is_none());
    drop(of_one);
    assert!(take("a/bob").is_some());
    drop(others);
    assert!(PLACES.lock().is_empty());
}
