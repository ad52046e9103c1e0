//! Which replicas there are, and what they have.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proxy_core::quota::StoreState;
use proxy_wire::v1::{Checkpoint, CheckpointReplica};

use crate::usage::{Departed, Usage};

/// A replica that was away for less than this is still counted: a reconnect must not change by what
/// others divide their limits. Longer than a reconnect takes, shorter than anybody waits for a status.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Replicas that an operator knows from its checkpoint only are counted for so long: every proxy looks
/// for new operators every ten seconds.
const EXPECTED: Duration = Duration::from_secs(15);

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
    /// It has lost the shared store of counters.
    pub store_lost: bool,
}

impl Fleet {
    /// How many replicas have applied the publication of `sequence` or a newer one.
    #[must_use]
    pub fn programmed(&self, sequence: u64) -> usize {
        let has = |replica: &&Replica| replica.acked.is_some_and(|acked| acked >= sequence);
        self.replicas.iter().filter(has).count()
    }
}

/// Replicas by identity, and what those used that are gone.
#[derive(Debug, Default)]
pub(crate) struct Members {
    all: BTreeMap<String, Member>,
    departed: Departed,
}

#[derive(Debug, Default)]
struct Member {
    open: usize,
    gone: Option<Instant>,
    /// Known from a checkpoint, and not seen yet.
    expected: bool,
    acked: Option<u64>,
    refused: Option<(u64, String)>,
    /// What it has counted; none if it is too old to tell.
    usage: Option<Usage>,
}

impl Members {
    /// A replica subscribes. `instance` tells one life of it from the next, whose counters are new:
    /// what the former one used is then used by somebody who is gone.
    pub(crate) fn join(&mut self, id: &str, instance: Option<&str>, now: Instant) {
        let member = self.all.entry(id.to_owned()).or_default();
        member.open += 1;
        member.gone = None;
        member.expected = false;
        let Some(instance) = instance else { return };
        match &member.usage {
            Some(usage) if usage.instance() == instance => {}
            Some(_) | None => {
                let back = self.departed.take(id, instance);
                let fresh = back.unwrap_or_else(|| Usage::new(instance));
                if let Some(former) = member.usage.replace(fresh) {
                    self.departed.add(id, former, now);
                }
            }
        }
    }

    pub(crate) fn leave(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.all.get_mut(id) {
            member.open = member.open.saturating_sub(1);
            if member.open == 0 {
                member.gone = Some(now);
            }
        }
    }

    /// Takes whoever has been away for longer than [`GRACE`] for gone. From the same moment on the
    /// others divide the limits by fewer, and count what it used.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let departed = &mut self.departed;
        self.all.retain(|id, member| {
            let grace = if member.expected { EXPECTED } else { GRACE };
            let stays = member
                .gone
                .is_none_or(|gone| now.saturating_duration_since(gone) < grace);
            if !stays && let Some(usage) = member.usage.take() {
                departed.add(id, usage, now);
            }
            stays
        });
        self.departed.age(now);
    }

    /// Whether this instance of `id` is a member; takes what it has counted.
    pub(crate) fn reported(&mut self, id: &str, reported: Usage) -> bool {
        let Some(usage) = self.all.get_mut(id).and_then(|one| one.usage.as_mut()) else {
            return false;
        };
        let same = usage.instance() == reported.instance();
        if same {
            *usage = reported;
        }
        same
    }

    /// What members have counted, as far as they tell.
    pub(crate) fn usages(&self) -> impl Iterator<Item = &Usage> {
        self.all.values().filter_map(|member| member.usage.as_ref())
    }

    pub(crate) const fn departed(&self) -> &Departed {
        &self.departed
    }

    pub(crate) const fn departed_mut(&mut self) -> &mut Departed {
        &mut self.departed
    }

    /// Whether a member counts in a shared store. Then nothing is carried: the store does it.
    pub(crate) fn share_a_store(&self) -> bool {
        self.usages().any(|usage| usage.store() != StoreState::None)
    }

    /// What is to be kept for the next operator.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let live = self.all.iter().filter_map(|(id, member)| {
            let usage = member.usage.as_ref()?;
            Some((id, usage, false))
        });
        let departed = self.departed.recent();
        let told = live.chain(departed.map(|(id, usage)| (id, usage, true)));
        let mut usages = Vec::new();
        for (id, usage, gone) in told {
            checkpoint.replicas.push(CheckpointReplica {
                id: id.clone(),
                instance: usage.instance().to_owned(),
                gone,
            });
            usages.push(usage);
        }
        if !self.share_a_store() {
            checkpoint.counters = self.departed.checkpoint(&usages);
        }
        checkpoint
    }

    /// Takes what an operator before this one kept: its replicas are expected for a while, and what
    /// those used that do not come is used by somebody who is gone.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint, now: Instant) {
        self.departed.restore(checkpoint);
        for (index, replica) in checkpoint.replicas.iter().enumerate() {
            let usage = Usage::restored(&replica.instance, checkpoint, index);
            if replica.gone {
                self.departed.add(&replica.id, usage, now);
            } else {
                let member = Member {
                    gone: Some(now),
                    expected: true,
                    usage: Some(usage),
                    ..Member::default()
                };
                self.all.insert(replica.id.clone(), member);
            }
        }
    }

    /// Whether `id` is a member; notes that it has the publication of `sequence`.
    pub(crate) fn applied(&mut self, id: &str, sequence: u64) -> bool {
        let Some(member) = self.all.get_mut(id) else {
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
        let Some(member) = self.all.get_mut(id) else {
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
        self.all.contains_key(id)
    }

    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.all.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn snapshot(&self, published: u64) -> Fleet {
        let seen = self.all.iter().filter(|(_, member)| !member.expected);
        let replica = |(id, member): (&String, &Member)| Replica {
            id: id.clone(),
            acked: member.acked,
            refused: member.refused.clone(),
            store_lost: member
                .usage
                .as_ref()
                .is_some_and(|usage| usage.store() == StoreState::Lost),
        };
        Fleet {
            published,
            replicas: seen.map(replica).collect(),
        }
    }
}
