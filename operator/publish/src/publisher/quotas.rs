//! The publisher's part in quotas: it takes the reports of replicas, publishes the carryover, keeps
//! warnings for the leader, and makes checkpoints for the next operator.

use proxy_admin::clock;
use proxy_admin::pages::backends::BackendsPage;
use proxy_admin::pages::usage::UsagePage;
use proxy_core::quota::CounterReading;
use proxy_wire::v1::{Checkpoint, DecodeError, Report};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Publisher;
use super::state::State;
use crate::carryover::carryover;
use crate::usage::{Usage, page};
use crate::warnings::{LimitWarnings, apart};

/// Shortest time between two calculations of the carryover after reports: only use above a
/// replica's share changes it.
const RENEWAL_MS: u64 = 1_000;

// === impl Publisher ===

impl Publisher {
    /// The use of every limit over all replicas.
    #[must_use]
    pub fn usage_page(&self) -> UsagePage {
        let state = self.0.state.lock();
        page::usage_page(&state.members, &state.limits, clock::now())
    }

    /// The state of every deployment that rules use, over all replicas.
    #[must_use]
    pub fn backends_page(&self) -> BackendsPage {
        let state = self.0.state.lock();
        state.members.backends_page(clock::now().monotonic_ms)
    }

    /// Calendar counters of all replicas in at most `longest` bytes, for [`Publisher::restore`].
    /// Counters that are nearest to their limits come first.
    ///
    /// # Errors
    /// Never for what this crate made; the codec has an error type nevertheless.
    pub fn checkpoint(&self, longest: usize) -> Result<String, DecodeError> {
        let checkpoint = {
            let mut guard = self.0.state.lock();
            let state = &mut *guard;
            let members = &mut state.members;
            members.departed_mut().forget(&state.limits, clock::now());
            let mut checkpoint = members.checkpoint();
            checkpoint.counters.sort_by_cached_key(|counter| {
                let used = counter.used.iter().map(|(_, used)| *used);
                let used = used.fold(counter.departed, u64::saturating_add);
                let limit = state.limits.get(&counter.limit);
                let amount = limit.map_or(u64::MAX, |limit| limit.amount_for(counter.overridden));
                let millionths =
                    u128::from(used).saturating_mul(1_000_000) / u128::from(amount.max(1));
                (
                    std::cmp::Reverse(millionths),
                    counter.limit.clone(),
                    counter.key,
                )
            });
            checkpoint
        };
        let (text, left_out) = checkpoint.to_json(longest)?;
        self.0.metrics.checkpoint_left_out.set(gauge(left_out));
        Ok(text)
    }

    /// Takes the checkpoint of the operator before this one. Call it before the first publication,
    /// so that no replica receives a smaller carryover than it had.
    ///
    /// # Errors
    /// It is no checkpoint, or one of another version. Nothing is taken.
    pub fn restore(&self, checkpoint: &str) -> Result<(), DecodeError> {
        let checkpoint = Checkpoint::from_json(checkpoint)?;
        info!(
            replicas = checkpoint.replicas.len(),
            counters = checkpoint.counters.len(),
            "checkpoint of counters restored"
        );
        self.change_members(|members| members.restore(&checkpoint, clock::instant()));
        Ok(())
    }

    /// Changes when replicas depart that had reported use: then a checkpoint is worth writing.
    #[must_use]
    pub fn departures(&self) -> watch::Receiver<u64> {
        self.0.departures.subscribe()
    }

    /// Takes a report; false if this instance of `id` is no member of the fleet.
    pub(crate) fn report(&self, id: &str, report: Report) -> bool {
        let instance = report.instance.clone();
        let counted = report.into_counted();
        let store = counted.store;
        let readings = counted.counters.iter();
        let warned = readings.filter(|reading| reading.warned.is_some());
        let warned: Vec<CounterReading> = warned.cloned().collect();
        let usage = Usage::reported(instance, counted, clock::now().monotonic_ms);
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let known = state.members.reported(id, usage);
        let apart = apart(store, state.members.count());
        let (warnings, limits) = (&mut state.warnings, &state.limits);
        let warns = known && warnings.observe(&warned, apart, limits, clock::now());
        state.carryover.due = true;
        self.notify_fleet(state);
        drop(guard);
        self.0.metrics.reports.inc();
        if warns {
            self.0
                .warnings
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        known
    }

    /// Changes when counters have reached levels of `warnAt`: then [`Publisher::take_warnings`] has some.
    #[must_use]
    pub fn warnings(&self) -> watch::Receiver<u64> {
        self.0.warnings.subscribe()
    }

    /// The levels that counters have reached since the last time, but not those of more than a minute ago.
    #[must_use]
    pub fn take_warnings(&self) -> Vec<LimitWarnings> {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        state.warnings.take(&state.limits, clock::now())
    }

    /// Calculates the carryover after reports, at most once per [`RENEWAL_MS`].
    pub(super) fn renew_carryover(&self) {
        let mut state = self.0.state.lock();
        let now_ms = clock::now().monotonic_ms;
        let soon = now_ms < state.carryover.calculated_ms.saturating_add(RENEWAL_MS);
        if soon || !state.carryover.due {
            return;
        }
        let before = state.carryover.version;
        self.calculate_carryover(&mut state);
        let changed = before != state.carryover.version;
        drop(state);
        if changed {
            self.notify_subscribers();
        }
    }

    /// Calculates the carryover; a new one is sent to every subscriber.
    pub(super) fn calculate_carryover(&self, state: &mut State) {
        let now = clock::now();
        state.carryover.due = false;
        state.carryover.calculated_ms = now.monotonic_ms;
        state.members.departed_mut().forget(&state.limits, now);
        let (carried, left_out) = carryover(&state.members, &state.limits, now);
        if state.carryover.carried.as_ref() == Some(&carried) {
            return;
        }
        if left_out > 0 {
            warn!(
                left_out,
                "the carryover is too large; it leaves out the smallest counters"
            );
        }
        self.0.metrics.carried.set(gauge(carried.entries.len()));
        self.0.metrics.carried_left_out.set(gauge(left_out));
        state.carryover.carried = Some(carried);
        state.carryover.line = None;
        state.carryover.version = state.carryover.version.wrapping_add(1);
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
