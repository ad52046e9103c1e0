//! The publisher's part in quotas: it listens to what replicas have counted, tells each what it has to
//! count for others, and keeps it all for the operator after this one.

use bytes::Bytes;
use proxy_admin::clock;
use proxy_wire::v1::{Carried, Checkpoint, DecodeError, Line, Report};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Publisher, State, bytes_of};
use crate::usage::{Usage, carried, standing};

/// How soon reports have an effect on what others carry, at most once in so long: only what somebody
/// used beyond its part has one.
const ANEW_MS: u64 = 1_000;

/// What every replica has to count in addition to its own use.
#[derive(Debug, Default)]
pub(super) struct Carries {
    carried: Option<Carried>,
    /// Changes with what is told.
    pub(super) version: u64,
    line: Option<Bytes>,
    /// Something has changed that it depends on.
    pub(super) due: bool,
    counted_ms: u64,
}

// === impl Carries ===

impl Carries {
    /// The line that tells it. Built once and shared by all subscribers.
    pub(super) fn line(&mut self) -> Option<Bytes> {
        if self.line.is_none() {
            let carried = self.carried.clone().unwrap_or(Carried {
                replicas: 0,
                entries: Vec::new(),
            });
            self.line = bytes_of(&Line::Carried(carried));
        }
        self.line.clone()
    }
}

// === impl Publisher ===

impl Publisher {
    /// Who has used how much of which limit over all replicas, as JSON for the admin port.
    ///
    /// # Errors
    /// It cannot be written, which does not happen.
    pub fn standing_page(&self) -> Result<String, String> {
        let standing = {
            let state = self.0.state.lock();
            standing::standing(&state.members, &state.limits, clock::now())
        };
        serde_json::to_string(&standing).map_err(|error| error.to_string())
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
                let amount = limit.map_or(u64::MAX, |declared| declared.limit.amount.max(1));
                let millionths = u128::from(used).saturating_mul(1_000_000) / u128::from(amount);
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

    /// Takes what an operator before this one kept. To be called before anything is published, so
    /// that no replica hears less than that one told.
    ///
    /// # Errors
    /// It is no checkpoint, or of another version. Nothing is taken.
    pub fn restore(&self, checkpoint: &str) -> Result<(), DecodeError> {
        let checkpoint = Checkpoint::from_json(checkpoint)?;
        info!(
            replicas = checkpoint.replicas.len(),
            counters = checkpoint.counters.len(),
            "checkpoint of counters taken"
        );
        self.change_members(|members| members.restore(&checkpoint, clock::instant()));
        Ok(())
    }

    /// Changes when replicas go that had counted something: then a checkpoint is worth writing.
    #[must_use]
    pub fn departures(&self) -> watch::Receiver<u64> {
        self.0.departures.subscribe()
    }

    /// Whether this instance of `id` is known as a replica; takes what it has counted.
    pub(crate) fn report(&self, id: &str, report: Report) -> bool {
        let usage = Usage::reported(report);
        let mut state = self.0.state.lock();
        let known = state.members.reported(id, usage);
        state.carries.due = true;
        self.tell_fleet(&state);
        drop(state);
        self.0.metrics.reports.inc();
        known
    }

    /// Sees to what follows from the reports since the last time.
    pub(super) fn count_anew(&self) {
        let mut state = self.0.state.lock();
        let now_ms = clock::now().monotonic_ms;
        let soon = now_ms < state.carries.counted_ms.saturating_add(ANEW_MS);
        if soon || !state.carries.due {
            return;
        }
        let before = state.carries.version;
        self.carry(&mut state);
        let changed = before != state.carries.version;
        drop(state);
        if changed {
            self.tell_subscribers();
        }
    }

    /// Calculates what every replica carries.
    pub(super) fn carry(&self, state: &mut State) {
        let now = clock::now();
        state.carries.due = false;
        state.carries.counted_ms = now.monotonic_ms;
        state.members.departed_mut().forget(&state.limits, now);
        let (carried, left_out) = carried::carried(&state.members, &state.limits, now);
        if state.carries.carried.as_ref() == Some(&carried) {
            return;
        }
        if left_out > 0 {
            warn!(left_out, "too many counters; replicas are not told of all");
        }
        self.0.metrics.carried.set(gauge(carried.entries.len()));
        self.0.metrics.carried_left_out.set(gauge(left_out));
        state.carries.carried = Some(carried);
        state.carries.line = None;
        state.carries.version = state.carries.version.wrapping_add(1);
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
