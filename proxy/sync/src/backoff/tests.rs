use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

#[test]
fn the_wait_grows_up_to_the_bound() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut backoff = Backoff::default();
    for failure in 0..200u32 {
        let bound = FIRST.saturating_mul(2u32.saturating_pow(failure)).min(LAST);
        assert!(backoff.next(&mut rng) <= bound);
    }
    let late: Vec<_> = (0..50).map(|_| backoff.next(&mut rng)).collect();
    assert!(late.iter().any(|wait| *wait > LAST / 2));
    assert!(late.iter().any(|wait| *wait < LAST / 2));
    backoff.reset();
    assert!(backoff.next(&mut rng) <= FIRST);
}
