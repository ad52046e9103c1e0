//! What a replica admits while the store is away, and the quota says `Share`.

use super::super::{
    Backing, Counter, Entry, Escrow, LeaseReply, Limit, Loss, Mode, OnStoreLoss, Period, Profile,
    Reservation, RoundTrip, TimeZone, Unit, Window, reserve,
};
use super::{at, limit, tokens};

/// A replica of several that share a store, of which it has heard once.
struct Cut {
    limit: Limit,
    counter: Counter,
    escrow: Escrow,
}

impl Cut {
    fn new(limit: Limit) -> Self {
        Self {
            counter: Counter::new(&limit, at(0)),
            escrow: Escrow::new(&limit),
            limit,
        }
    }

    /// The store tells the use of all replicas, this grant included.
    fn hears(&mut self, granted: u64, used: u64, profile: Option<Profile>, when: u64) {
        let ask = self.escrow.request(granted, 3, at(when));
        let reply = LeaseReply {
            granted,
            at: i64::try_from(when / 1_000).expect("small"),
            lasts: 1,
            used,
            ends_in_ms: None,
            elsewhere: 0,
            profile,
        };
        let trip = RoundTrip {
            sent_ms: at(when).monotonic_ms,
            received_ms: at(when).monotonic_ms,
            settling: false,
        };
        self.escrow.answered(&ask, reply, trip);
    }

    /// Asks while the store is away since it answered at `contact`, as one of three replicas.
    fn asks(&mut self, ask: u64, contact: u64, when: u64) -> Option<Reservation> {
        let loss = Loss {
            on: OnStoreLoss::Share,
            replicas: 3,
            contact: at(contact),
        };
        let mut entries = [Entry {
            limit: &self.limit,
            mode: Mode::Enforce,
            counter: &mut self.counter,
            backing: Backing::Cut(&mut self.escrow, loss),
        }];
        let taken: Result<Vec<_>, _> = reserve(&mut entries, &tokens(ask), at(when));
        taken.ok()?.pop()
    }

    /// How much it admits at once.
    fn admits(&mut self, contact: u64, when: u64) -> usize {
        (0..1_000)
            .map_while(|_| self.asks(1, contact, when))
            .count()
    }
}

#[test]
fn a_replica_without_the_store_has_its_part_of_what_was_left_and_its_grants() {
    let mut cut = Cut::new(limit(Unit::Tokens, 900, Window::Minute));
    cut.hears(50, 350, None, 1_000);
    // 550 are left to three, and 50 are lent; the grant is good for a second.
    assert_eq!(cut.admits(1_000, 1_500), 183 + 50);
    assert_eq!(
        cut.admits(1_000, 30_000),
        0,
        "nothing is known to have expired"
    );
    // By now all of it is old, and what this replica has used, too.
    assert_eq!(cut.admits(1_000, 64_000), 300);
}

#[test]
fn what_expires_of_the_known_whole_is_shared() {
    let mut cut = Cut::new(limit(Unit::Tokens, 900, Window::Minute));
    let mut buckets = vec![0; 62];
    (buckets[0], buckets[10], buckets[61]) = (300, 300, 300);
    let profile = Profile::Rolling {
        buckets,
        ahead: 0,
        debt: 0,
        tau_ms: 1_000,
        turns_in_ms: 400,
    };
    cut.hears(0, 900, Some(profile), 1_000);
    assert_eq!(cut.admits(1_000, 1_399), 0);
    assert_eq!(cut.admits(1_000, 1_400), 100);
    assert_eq!(cut.admits(1_000, 11_399), 0);
    assert_eq!(cut.admits(1_000, 11_400), 100);
    assert_eq!(cut.admits(1_000, 62_399), 0);
    assert_eq!(cut.admits(1_000, 62_400), 100);
}

#[test]
fn a_replica_that_knows_nothing_of_the_whole_admits_nothing_for_a_window() {
    let hour = Window::Calendar(Period::Hour, TimeZone::UTC);
    for (window, unit, waits, part) in [
        (Window::Second, Unit::Tokens, 2_200, 300),
        (Window::Minute, Unit::Tokens, 63_000, 300),
        (hour, Unit::Tokens, 3_600_000, 300),
        (Window::Held, Unit::Concurrency, 31_000, 300),
    ] {
        let mut never = Cut::new(limit(unit, 900, window.clone()));
        assert_eq!(never.admits(0, waits - 1), 0, "{window:?}");
        assert_eq!(never.admits(0, waits), part, "{window:?}");
        // What it heard is too old.
        let mut long_ago = Cut::new(limit(unit, 900, window.clone()));
        long_ago.hears(0, 0, None, 0);
        assert_eq!(long_ago.admits(2_000, waits - 1), 0, "{window:?}");
    }
}

#[test]
fn running_requests_keep_their_permits_while_the_store_is_away() {
    let mut cut = Cut::new(limit(Unit::Concurrency, 9, Window::Held));
    cut.hears(2, 6, None, 1_000);
    let first = cut.asks(1, 1_000, 1_100).expect("a permit");
    // Two permits, and a third of the three that are left.
    assert_eq!(cut.admits(1_000, 1_200), 2);
    let mut entry = Entry::own(&cut.limit, Mode::Enforce, &mut cut.counter);
    entry.backing = Backing::Lent(&mut cut.escrow);
    entry.settle(first, 1, at(1_300));
    assert_eq!(cut.admits(1_000, 1_400), 1);
}

#[test]
fn a_report_on_its_way_counts_as_used() {
    let mut cut = Cut::new(limit(Unit::Tokens, 900, Window::Minute));
    cut.hears(0, 0, None, 1_000);
    assert_eq!(cut.admits(1_000, 1_100), 300);
    let report = cut.escrow.report(at(1_200));
    assert_eq!(cut.admits(1_000, 1_200), 0);
    cut.escrow.unanswered(&report);
    assert_eq!(cut.admits(1_000, 1_300), 0);
}

#[test]
fn totals_of_a_store_that_lost_its_data_are_not_believed() {
    let mut cut = Cut::new(limit(Unit::Tokens, 900, Window::Minute));
    cut.hears(0, 600, None, 1_000);
    cut.escrow.forget(0);
    let report = cut.escrow.report(at(1_100));
    let reply = LeaseReply {
        granted: 0,
        at: 1,
        lasts: 1,
        used: 0,
        ends_in_ms: None,
        elsewhere: 0,
        profile: None,
    };
    let trip = RoundTrip {
        sent_ms: at(1_100).monotonic_ms,
        received_ms: at(1_100).monotonic_ms,
        settling: true,
    };
    cut.escrow.answered(&report, reply, trip);
    assert_eq!(cut.admits(1_100, 1_200), 0);
}
