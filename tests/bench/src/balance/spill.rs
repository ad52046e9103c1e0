//! A provisioned deployment behind two proxies, with another deployment behind it or none.

use std::collections::VecDeque;
use std::time::Duration;

use proxy_core::balance::room::{self, Bucket, WHOLE};
use proxy_core::balance::{
    Call, Candidate, Demand, Health, HealthSettings, Outcome, Standing, Turn, choose,
};
use proxy_core::names::{Class, Moment};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Tokens that the deployment takes in a minute.
const RATE: u64 = 600_000;
/// Tokens of a call, and what is reckoned for it at first.
const TOKENS: u64 = 200;
const RECKONED: u64 = 400;
/// When the head of an answer comes, with the use of the deployment, and when its end, in milliseconds.
const HEAD: u64 = 300;
const END: u64 = 2_000;
/// What is simulated, and the part of it that counts, in milliseconds.
const TIME: u64 = 20 * 60_000;
const COUNTS: u64 = 15 * 60_000;
/// The wait of a 429.
const WAIT: Duration = Duration::from_millis(200);

/// What came of one load. In per cent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spill {
    /// Of the calls of each class: those that the deployment served.
    pub(super) served: [f64; 3],
    /// Of the deployment: what was used.
    pub(super) used: f64,
    /// Of all calls: those that the deployment answered with 429.
    pub(super) refused: f64,
    /// Of the calls of Interactive: those that no deployment served.
    pub(super) lost: f64,
    /// Of all calls: those of each class.
    offered: [f64; 3],
}

/// What one proxy knows of the deployment.
#[derive(Default)]
struct Proxy {
    health: Health,
    bucket: Bucket,
    answered: u64,
}

/// What comes later for a call.
enum Later {
    Head,
    End,
}

#[derive(Default)]
struct Counts {
    offered: [u32; 3],
    served: [u32; 3],
    refused: u32,
    lost: [u32; 3],
}

struct World {
    rng: StdRng,
    proxies: [Proxy; 2],
    /// The deployment as its owner counts.
    truth: Bucket,
    heads: VecDeque<(u64, usize)>,
    ends: VecDeque<(u64, usize)>,
    counts: Counts,
    has_next: bool,
}

/// A load in per cent of what the deployment takes, of three classes or of one.
pub(super) fn simulated(load: u32, has_classes: bool, has_next: bool) -> Spill {
    let mut world = World {
        rng: StdRng::seed_from_u64(u64::from(load)),
        proxies: Default::default(),
        truth: Bucket::default(),
        heads: VecDeque::new(),
        ends: VecDeque::new(),
        counts: Counts::default(),
        has_next,
    };
    let calls = TIME * RATE / 60_000 / TOKENS * u64::from(load) / 100;
    for call in 0..calls {
        let ms = call * TIME / calls;
        world.pass(ms);
        let class = if has_classes {
            world.rng.random_range(0..Class::ALL.len())
        } else {
            1
        };
        world.call(class, has_classes, ms);
    }
    world.counts.spill()
}

// === impl World ===

impl World {
    fn pass(&mut self, ms: u64) {
        for later in [Later::Head, Later::End] {
            let queue = match later {
                Later::Head => &mut self.heads,
                Later::End => &mut self.ends,
            };
            while let Some((due, proxy)) = queue.pop_front_if(|(due, _)| *due <= ms) {
                let Some(proxy) = self.proxies.get_mut(proxy) else {
                    continue;
                };
                let now = at(due);
                match later {
                    Later::Head => {
                        let used = WHOLE.saturating_sub(self.truth.free(RATE, now));
                        proxy.bucket.told(used, RATE, now);
                    }
                    Later::End => proxy.bucket.corrects(RECKONED, TOKENS, RATE, now),
                }
            }
        }
    }

    fn call(&mut self, index: usize, has_classes: bool, ms: u64) {
        let now = at(ms);
        let class = Class::ALL.get(index).copied().unwrap_or_default();
        let demand = Demand {
            size: TOKENS,
            class,
        };
        let counts = ms >= COUNTS;
        add(&mut self.counts.offered, index, counts);
        let number = self.rng.random_range(0..self.proxies.len());
        let Some(proxy) = self.proxies.get_mut(number) else {
            return;
        };
        let standing = proxy.health.standing(demand, now);
        let free = proxy.bucket.free(RATE, now);
        let has_higher = has_classes && class != Class::Interactive;
        let turn = room::turn(standing, class, has_higher, free, &mut self.rng);
        let next = if self.has_next {
            Turn::Usual
        } else {
            Turn::Never
        };
        let candidates = [(0, turn), (1, next)].map(|(priority, turn)| Candidate {
            priority,
            weight: 1,
            turn,
            load: 0,
            first_byte_us: 0,
        });
        let chosen = choose(&candidates, &mut self.rng);
        let is_probe = matches!(standing, Standing::Due(_));
        let is_first = chosen == Some(0) && (!is_probe || proxy.health.take_probe(demand, now));
        if !is_first {
            return add(&mut self.counts.lost, index, counts && !self.has_next);
        }
        let is_full = self.truth.free(RATE, now) == 0;
        let outcome = if is_full {
            Outcome::Throttled(Some(WAIT))
        } else {
            proxy.answered += 1;
            Outcome::Answered
        };
        let call = Call {
            began: now,
            ended: now,
            demand,
        };
        let settings = HealthSettings::default();
        proxy
            .health
            .record(outcome, call, proxy.answered, &settings);
        if is_full {
            self.counts.refused += u32::from(counts);
            return add(&mut self.counts.lost, index, counts && !self.has_next);
        }
        self.truth.takes(TOKENS, RATE, now);
        proxy.bucket.takes(RECKONED, RATE, now);
        self.heads.push_back((ms + HEAD, number));
        self.ends.push_back((ms + END, number));
        add(&mut self.counts.served, index, counts);
    }
}

// === impl Counts ===

impl Counts {
    fn spill(&self) -> Spill {
        let all = self.offered.iter().sum();
        let served: u32 = self.served.iter().sum();
        let tokens = f64::from(served) * f64::from(u32::try_from(TOKENS).unwrap_or(0));
        let minutes = f64::from(u32::try_from((TIME - COUNTS) / 60_000).unwrap_or(1));
        let rate = f64::from(u32::try_from(RATE).unwrap_or(u32::MAX));
        let [_, _, lost] = self.lost;
        let [_, _, interactive] = self.offered;
        let mut each = self.served.iter().zip(self.offered);
        Spill {
            served: std::array::from_fn(|_| each.next().map_or(0.0, |(part, of)| share(*part, of))),
            used: 100.0 * tokens / minutes / rate,
            refused: share(self.refused, all),
            lost: share(lost, interactive),
            offered: self.offered.map(|part| share(part, all)),
        }
    }
}

// === impl Spill ===

impl Spill {
    /// Of all calls: those that the deployment served.
    pub(super) fn all(&self) -> f64 {
        let each = self.served.iter().zip(self.offered);
        each.map(|(served, offered)| served * offered / 100.0).sum()
    }
}

fn share(part: u32, of: u32) -> f64 {
    if of == 0 {
        return 0.0;
    }
    100.0 * f64::from(part) / f64::from(of)
}

fn add(counts: &mut [u32; 3], index: usize, counts_now: bool) {
    if let Some(count) = counts.get_mut(index) {
        *count += u32::from(counts_now);
    }
}

fn at(ms: u64) -> Moment {
    Moment {
        monotonic_ms: ms,
        unix_ms: 0,
    }
}
