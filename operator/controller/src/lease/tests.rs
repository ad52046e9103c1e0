use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::{Elector, Record, Step, Timing};

const TIMING: Timing = Timing::KUBERNETES;

/// The API server's copy of the lease: a version that every write changes.
#[derive(Default)]
struct Store {
    record: Option<Record>,
    version: u64,
}

impl Store {
    fn write(&mut self, based_on: Option<&str>, holder: &str, transitions: i32) -> Option<Record> {
        let current = self.record.as_ref().map(|record| record.version.as_str());
        if current != based_on {
            return None;
        }
        self.version += 1;
        let record = Record {
            version: self.version.to_string(),
            holder: holder.to_owned(),
            transitions,
        };
        self.record = Some(record.clone());
        Some(record)
    }
}

/// A candidate with a clock of its own.
struct Candidate {
    elector: Elector,
    name: &'static str,
    /// What its monotonic clock shows when the true time is 0.
    offset_ms: u64,
}

impl Candidate {
    fn new(name: &'static str, offset_ms: u64) -> Self {
        Self {
            elector: Elector::new(name.to_owned(), TIMING),
            name,
            offset_ms,
        }
    }

    fn look(&mut self, store: &Store, now_ms: u64) {
        self.elector
            .observe(store.record.clone(), now_ms + self.offset_ms);
    }

    /// Looks at `seen_ms`, writes what it then decides; the write arrives at `stored_ms`.
    fn attempt(&mut self, store: &mut Store, seen_ms: u64, stored_ms: u64) {
        self.look(store, seen_ms);
        self.act(store, seen_ms, stored_ms);
    }

    fn act(&mut self, store: &mut Store, sent_ms: u64, stored_ms: u64) {
        let sent = sent_ms + self.offset_ms;
        let stored = match self.elector.step(sent) {
            Step::Wait => return,
            Step::Create => store.write(None, self.name, 0),
            Step::Write {
                version,
                transitions,
                ..
            } => store.write(Some(&version), self.name, transitions),
        };
        match stored {
            Some(record) => self
                .elector
                .written(record, sent, stored_ms + self.offset_ms),
            None => self.look(store, stored_ms),
        }
    }

    fn leads(&self, now_ms: u64) -> bool {
        self.elector.leads(now_ms + self.offset_ms)
    }
}

#[test]
fn the_first_to_create_the_lease_leads_and_the_other_waits() {
    let mut store = Store::default();
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", 0));
    a.look(&store, 0);
    b.look(&store, 0);
    a.act(&mut store, 0, 5);
    // Both wanted to create it; the second is refused.
    b.act(&mut store, 0, 6);
    assert!(a.leads(10));
    assert!(!b.leads(10));
    assert_eq!(b.elector.step(10), Step::Wait);
}

#[test]
fn a_candidate_takes_over_only_after_a_whole_duration_without_a_change() {
    let mut store = Store::default();
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", 0));
    a.attempt(&mut store, 0, 0);
    b.attempt(&mut store, 1_000, 1_000);
    b.attempt(&mut store, 15_999, 15_999);
    assert!(!b.leads(15_999), "seen for 14,999 ms");
    b.attempt(&mut store, 16_000, 16_000);
    assert!(b.leads(16_000));
    assert_eq!(store.record.expect("it is stored").transitions, 1);
}

#[test]
fn a_renewed_lease_never_expires() {
    let mut store = Store::default();
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", 0));
    for round in 0..50 {
        let now = round * 2_000;
        a.attempt(&mut store, now, now + 10);
        b.attempt(&mut store, now + 500, now + 510);
        assert!(a.leads(now + 1_999) && !b.leads(now + 1_999));
    }
}

#[test]
fn a_skewed_clock_neither_steals_nor_keeps_the_lease() {
    let mut store = Store::default();
    let day_ms = 86_400_000;
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", day_ms));
    a.attempt(&mut store, 0, 0);
    b.attempt(&mut store, 10, 10);
    b.attempt(&mut store, 9_000, 9_000);
    assert!(a.leads(9_000) && !b.leads(9_000));
    b.attempt(&mut store, 15_010, 15_010);
    assert!(b.leads(15_010) && !a.leads(15_010));
}

#[test]
fn a_leader_that_is_cut_off_stops_before_another_can_start() {
    let mut store = Store::default();
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", 0));
    a.attempt(&mut store, 0, 0);
    b.attempt(&mut store, 0, 0);
    assert!(a.leads(9_999));
    assert!(!a.leads(10_000), "the renew deadline");
    b.attempt(&mut store, 14_999, 14_999);
    assert!(!b.leads(14_999), "the lease's duration");
}

#[test]
fn a_write_counts_from_its_request_not_from_its_response() {
    let mut store = Store::default();
    let mut a = Candidate::new("a", 0);
    // The API server takes four seconds to answer.
    a.attempt(&mut store, 0, 4_000);
    assert!(a.leads(9_999));
    assert!(!a.leads(10_000));
}

#[test]
fn of_two_candidates_that_observed_an_expired_lease_one_wins() {
    let mut store = Store::default();
    let mut dead = Candidate::new("dead", 0);
    dead.attempt(&mut store, 0, 0);
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", 0));
    a.look(&store, 0);
    b.look(&store, 0);
    a.look(&store, 20_000);
    b.look(&store, 20_000);
    a.act(&mut store, 20_000, 20_010);
    b.act(&mut store, 20_000, 20_020);
    assert!(a.leads(20_100) && !b.leads(20_100));
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut store = Store::default();
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", 0));
    a.attempt(&mut store, 0, 0);
    let released = a.elector.release().expect("it was ours");
    assert!(!a.leads(1));
    store
        .write(
            Some(&released.version),
            &released.holder,
            released.transitions,
        )
        .expect("no other candidate wrote");
    b.attempt(&mut store, 2, 3);
    assert!(b.leads(3));
}

#[test]
fn only_the_holder_releases_the_lease() {
    let mut store = Store::default();
    let (mut a, mut b) = (Candidate::new("a", 0), Candidate::new("b", 0));
    a.attempt(&mut store, 0, 0);
    b.attempt(&mut store, 0, 0);
    assert_eq!(b.elector.release(), None);
    b.attempt(&mut store, 1, 1);
    b.attempt(&mut store, 15_001, 15_001);
    a.look(&store, 15_002);
    assert_eq!(a.elector.release(), None, "the other one has it now");
}

#[test]
fn a_deleted_lease_ends_the_leadership_and_is_created_again() {
    let mut store = Store::default();
    let mut a = Candidate::new("a", 0);
    a.attempt(&mut store, 0, 0);
    store.record = None;
    a.look(&store, 100);
    assert!(!a.leads(100));
    assert_eq!(a.elector.step(100), Step::Create);
}

proptest! {
    /// Whatever the delays, the clocks and who can be reached: never two leaders at a time.
    #[test]
    fn there_are_never_two_leaders(
        offsets in prop::array::uniform3(0_u64..100_000_000),
        steps in prop::collection::vec((0_usize..3, 1_u64..6_000, 0_u64..9_000, any::<bool>()), 1..200),
    ) {
        let names = ["a", "b", "c"];
        let mut store = Store::default();
        let mut all: Vec<Candidate> = names
            .into_iter()
            .zip(offsets)
            .map(|(name, offset)| Candidate::new(name, offset))
            .collect();
        let mut now = 0;
        for (who, wait, slow, reachable) in steps {
            now += wait;
            if reachable {
                let candidate = &mut all[who];
                // Reads now; the write arrives later, unless the deadline of a leader is before.
                let led = candidate.leads(now);
                candidate.look(&store, now);
                let stored = now + slow;
                candidate.act(&mut store, now, stored);
                now = stored;
                prop_assert!(!led || store.record.is_some());
            }
            let leading: BTreeSet<&str> = all
                .iter()
                .filter(|candidate| candidate.leads(now))
                .map(|candidate| candidate.name)
                .collect();
            prop_assert!(leading.len() <= 1, "{leading:?} at {now}");
        }
    }
}

#[test]
fn the_times_leave_a_gap_between_the_leader_stopping_and_another_starting() {
    let gap = TIMING.duration.checked_sub(TIMING.renew_deadline);
    assert!(gap.is_some_and(|gap| gap >= Duration::from_secs(5)));
    assert!(
        TIMING.retry * 3 < TIMING.renew_deadline,
        "a failed look or two cost nothing"
    );
}
