//! Two endpoints of one tier. One fails for half a minute, and works again.

use std::time::Duration;

use proxy_core::balance::{
    Call, Candidate, Demand, Health, HealthSettings, Outcome, Standing, Turn, choose, room,
};
use proxy_core::names::{Class, Moment};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Calls in a second.
const RATE: u64 = 300;
const FAILS: Duration = Duration::from_secs(30);
/// Seconds that are looked at after that.
const AFTER: usize = 12;
const DEMAND: Demand = Demand {
    size: 500,
    class: Class::Standard,
};

/// The share of the endpoint in each second since it works, in per cent of all calls.
pub(super) fn simulated() -> Vec<f64> {
    let rng = &mut StdRng::seed_from_u64(2);
    let settings = HealthSettings::default();
    let mut health = Health::default();
    let mut answered = 0;
    let mut seconds = [0u32; AFTER];
    let fails = u64::try_from(FAILS.as_millis()).unwrap_or(0);
    let until = fails + 1_000 * u64::try_from(AFTER).unwrap_or(0);
    for call in 0.. {
        let ms = call * 1_000 / RATE;
        if ms >= until {
            break;
        }
        let now = Moment {
            monotonic_ms: ms,
            unix_ms: 0,
        };
        let standing = health.standing(DEMAND, now);
        let turn = room::turn(standing, DEMAND.class, false, room::WHOLE, rng);
        let candidates = [turn, Turn::Usual].map(|turn| Candidate {
            priority: 0,
            weight: 1,
            turn,
            load: 0,
            first_byte_us: 0,
        });
        let is_probe = matches!(standing, Standing::Due(_));
        if choose(&candidates, rng) != Some(0) || is_probe && !health.take_probe(DEMAND, now) {
            continue;
        }
        let works = ms >= fails;
        answered += u64::from(works);
        let outcome = if works {
            Outcome::Answered
        } else {
            Outcome::Failed
        };
        let call = Call {
            began: now,
            ended: now,
            demand: DEMAND,
        };
        health.record(outcome, call, answered, &settings);
        let second = ms.checked_sub(fails).map(|past| past / 1_000);
        let second = second.and_then(|second| usize::try_from(second).ok());
        if let Some(count) = second.and_then(|second| seconds.get_mut(second)) {
            *count += 1;
        }
    }
    let all = f64::from(u32::try_from(RATE).unwrap_or(u32::MAX));
    seconds.map(|count| 100.0 * f64::from(count) / all).to_vec()
}
