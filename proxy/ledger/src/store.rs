//! The shared store of counters: what requests ask of it, and whether it answers.
//!
//! Requests never talk to it. They take from the escrow of their counter ([`proxy_core::quota::Escrow`]),
//! and hand a [`Call`] to the agent when that runs low; only a request that is short waits for the
//! answer. Refuses to decide: what fits is said by core, what is granted by the script.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_core::names::Moment;
use proxy_core::quota::{LeaseReply, LeaseRequest, Limit, RoundTrip, StoreState};
use tokio::sync::mpsc;

use crate::address::StoreAddress;
use crate::slot::Slot;

#[cfg(test)]
mod tests;

/// Calls on their way to the agent. When they are full, a request behaves as if the store had not
/// answered.
const CALLS: usize = 4096;

/// Settings of the shared store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where it is.
    pub address: StoreAddress,
    /// PEM file with the CA of its certificate; without one the public ones are trusted.
    pub ca_file: Option<PathBuf>,
    /// What the keys begin with, and the same for all replicas of one gateway.
    pub prefix: String,
    /// The name of this replica, for an operator who inspects the store.
    pub replica: String,
}

/// The requests' side of the store.
#[derive(Debug)]
pub(crate) struct Store {
    phase: AtomicU8,
    /// How many replicas the store counts, and how many the operators report.
    pub(crate) counted: AtomicU64,
    reported: AtomicU64,
    /// The store's clock less ours, in milliseconds.
    pub(crate) ahead_ms: AtomicI64,
    /// When the store last answered; before that, when this replica started.
    contact_ms: AtomicU64,
    contact_unix_ms: AtomicI64,
    calls: mpsc::Sender<Call>,
    /// Counters that hold grants, or owe a report.
    pub(crate) listed: Mutex<Vec<Arc<Slot>>>,
}

/// Counters that are reported and asked for together.
#[derive(Debug)]
pub(crate) struct Call(pub(crate) Vec<Asked>);

/// One counter of a call.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) slot: Arc<Slot>,
    pub(crate) limit: Limit,
    pub(crate) ask: LeaseRequest,
}

/// How the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It does not answer.
    Away,
    /// It answers, has lost its data, and grants nothing until every replica had time to report its
    /// use.
    Settling,
    /// It grants.
    Open,
}

impl Store {
    /// The requests' side, and where their calls come out.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Call>) {
        let (calls, received) = mpsc::channel(CALLS);
        let now = clock::now();
        let store = Arc::new(Self {
            phase: AtomicU8::new(0),
            counted: AtomicU64::new(1),
            reported: AtomicU64::new(1),
            ahead_ms: AtomicI64::new(0),
            contact_ms: AtomicU64::new(now.monotonic_ms),
            contact_unix_ms: AtomicI64::new(now.unix_ms),
            calls,
            listed: Mutex::default(),
        });
        (store, received)
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Away,
            1 => Phase::Settling,
            _ => Phase::Open,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::Away => 0,
            Phase::Settling => 1,
            Phase::Open => 2,
        };
        self.phase.store(number, Ordering::Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase() == Phase::Open
    }

    pub(crate) fn state(&self) -> StoreState {
        match self.phase() {
            Phase::Away => StoreState::Lost,
            Phase::Settling | Phase::Open => StoreState::Ok,
        }
    }

    /// Notes that it answered.
    pub(crate) fn touch(&self, now: Moment) {
        self.contact_ms.store(now.monotonic_ms, Ordering::Relaxed);
        self.contact_unix_ms.store(now.unix_ms, Ordering::Relaxed);
    }

    /// When it last answered; before that, when this replica started.
    pub(crate) fn contact(&self) -> Moment {
        Moment {
            monotonic_ms: self.contact_ms.load(Ordering::Relaxed),
            unix_ms: self.contact_unix_ms.load(Ordering::Relaxed),
        }
    }

    /// How many replicas share the store: the larger of two numbers that may both be late. A number
    /// that is too small would admit too much while the store is away.
    pub(crate) fn replicas(&self) -> u64 {
        let counted = self.counted.load(Ordering::Relaxed);
        counted.max(self.reported.load(Ordering::Relaxed))
    }

    /// Takes the number that the operators report.
    pub(crate) fn set_reported_replicas(&self, replicas: u64) {
        self.reported.store(replicas, Ordering::Relaxed);
    }

    /// The store's wall clock, about.
    pub(crate) fn unix_ms(&self) -> i64 {
        clock::now()
            .unix_ms
            .saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Tends a counter until it holds no grant and owes no report. Call it once per counter.
    pub(crate) fn list(&self, slot: &Arc<Slot>) {
        self.listed.lock().push(Arc::clone(slot));
    }

    /// Sends a call. One that cannot be sent counts as unanswered.
    pub(crate) fn send(&self, call: Call) {
        if let Err(refused) = self.calls.try_send(call) {
            refused.into_inner().fail();
        }
    }
}

impl Call {
    pub(crate) fn answered(self, answers: Vec<LeaseReply>, trip: RoundTrip) {
        for (asked, answer) in self.0.into_iter().zip(answers) {
            asked.slot.answered(&asked.ask, answer, trip);
        }
    }

    /// The same call once more, without the reports that the answer has confirmed.
    pub(crate) fn again(self) -> Self {
        let again = |asked: Asked| Asked {
            ask: asked.ask.again(),
            ..asked
        };
        Self(self.0.into_iter().map(again).collect())
    }

    /// No answer came.
    pub(crate) fn fail(self) {
        for asked in self.0 {
            asked.slot.unanswered(&asked.ask);
        }
    }
}
