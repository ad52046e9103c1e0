//! Which replicas there are, and what they have.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A replica that was away for less than this is still counted: a reconnect must not change by what
/// others divide their limits. Longer than a reconnect takes, shorter than anybody waits for a status.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// What the fleet of proxies has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Sequence of the newest publication; 0 before the first.
    pub published: u64,
    /// Replicas with an open subscription, sorted by id.
    pub replicas: Vec<Replica>,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its reviewed identity.
    pub id: String,
    /// Sequence of the newest publication that it applied.
    pub acked: Option<u64>,
    /// Sequence of the newest publication that it refused, and why; `None` again once it applied
    /// that one or a newer one.
    pub refused: Option<(u64, String)>,
}

impl Fleet {
    /// How many replicas have applied the publication of `sequence` or a newer one.
    #[must_use]
    pub fn programmed(&self, sequence: u64) -> usize {
        let has = |replica: &&Replica| replica.acked.is_some_and(|acked| acked >= sequence);
        self.replicas.iter().filter(has).count()
    }
}

/// Replicas by identity.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<String, Member>);

#[derive(Debug, Default)]
struct Member {
    open: usize,
    gone: Option<Instant>,
    acked: Option<u64>,
    refused: Option<(u64, String)>,
}

impl Members {
    pub(crate) fn join(&mut self, id: &str) {
        let member = self.0.entry(id.to_owned()).or_default();
        member.open += 1;
        member.gone = None;
    }

    pub(crate) fn leave(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.0.get_mut(id) {
            member.open = member.open.saturating_sub(1);
            if member.open == 0 {
                member.gone = Some(now);
            }
        }
    }

    /// Forgets whoever has been away for longer than [`GRACE`].
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, member| {
            member
                .gone
                .is_none_or(|gone| now.saturating_duration_since(gone) < GRACE)
        });
    }

    /// Whether `id` is a member; notes that it has the publication of `sequence`.
    pub(crate) fn applied(&mut self, id: &str, sequence: u64) -> bool {
        let Some(member) = self.0.get_mut(id) else {
            return false;
        };
        // Acknowledgements may overtake each other; a proxy never goes back.
        member.acked = member.acked.max(Some(sequence));
        if member
            .refused
            .as_ref()
            .is_some_and(|(at, _)| *at <= sequence)
        {
            member.refused = None;
        }
        true
    }

    /// Whether `id` is a member; notes that it refused the publication of `sequence`.
    pub(crate) fn refused(&mut self, id: &str, sequence: u64, error: String) -> bool {
        let Some(member) = self.0.get_mut(id) else {
            return false;
        };
        if member
            .refused
            .as_ref()
            .is_none_or(|(at, _)| *at <= sequence)
        {
            member.refused = Some((sequence, error));
        }
        true
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn snapshot(&self, published: u64) -> Fleet {
        let replica = |(id, member): (&String, &Member)| Replica {
            id: id.clone(),
            acked: member.acked,
            refused: member.refused.clone(),
        };
        Fleet {
            published,
            replicas: self.0.iter().map(replica).collect(),
        }
    }
}
