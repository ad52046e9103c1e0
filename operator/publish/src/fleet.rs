//! The members of the fleet, with their acknowledgements and their use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_admin::pages::backends::BackendsPage;
use proxy_core::names::{EntryName, ObjectName};
use proxy_core::quota::StoreState;
use proxy_wire::v1::{Checkpoint, CheckpointReplica, Unsupported};

use crate::deployments::{Outages, Served, backends_page};
use crate::usage::{Departed, Usage};

/// A replica that is away for less than this still counts: a reconnect must not change the divisor
/// of the others' limits. Longer than a reconnect, shorter than a person waits for a status.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A replica that an operator knows from a checkpoint only counts for this long: every proxy looks
/// for new operators every ten seconds.
const EXPECTED: Duration = Duration::from_secs(15);

/// The live proxies and their acknowledgements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Replicas with an open subscription, sorted by id.
    pub replicas: Vec<Replica>,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Its reviewed identity.
    pub id: String,
    /// Sequence of the newest publication that it applied.
    pub acked: Option<u64>,
    /// Sequence of the newest publication that it refused, and its error; `None` after it applied
    /// that one or a newer one.
    pub refused: Option<(u64, String)>,
    /// Entries of that publication which it cannot enforce as declared, with the features that it
    /// lacks.
    pub unsupported: Arc<BTreeMap<EntryName, Vec<String>>>,
    /// It has lost the shared store of counters.
    pub store_lost: bool,
    /// Backends that it has no token for, each with the reason and what to do.
    pub tokenless: Arc<BTreeMap<ObjectName, String>>,
    /// The deployments that its rules use; empty for one that is too old to tell.
    pub outages: Arc<Outages>,
}

/// Replicas by identity, and the use of departed ones.
#[derive(Debug, Default)]
pub(crate) struct Members {
    all: BTreeMap<String, Member>,
    departed: Departed,
}

#[derive(Debug, Default)]
struct Member {
    /// Open subscriptions.
    open: usize,
    /// When the last subscription ended; `None` while one is open.
    away: Option<Instant>,
    /// From a checkpoint; has not subscribed yet.
    expected: bool,
    acked: Option<u64>,
    refused: Option<(u64, String)>,
    unsupported: Arc<BTreeMap<EntryName, Vec<String>>>,
    /// Its use; `None` for a proxy that is too old to report it.
    usage: Option<Usage>,
}

// === impl Fleet ===

impl Fleet {
    /// The deployments of a backend that proxies reported, by name.
    #[must_use]
    pub fn deployments_of(&self, backend: &ObjectName) -> BTreeMap<&str, Served> {
        Served::by(self.replicas.iter().map(|one| &*one.outages), backend)
    }
}

// === impl Members ===

impl Members {
    /// A replica subscribes. `instance` is its process: a new one has new counters, so the use of
    /// the former process is that of a departed replica.
    pub(crate) fn join(&mut self, id: &str, instance: Option<&str>, now: Instant) {
        let member = self.all.entry(id.to_owned()).or_default();
        member.open += 1;
        member.away = None;
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
                member.away = Some(now);
            }
        }
    }

    /// Removes replicas that have been away for longer than [`GRACE`]. At the same moment the
    /// others divide the limits by fewer, and carry its use.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let departed = &mut self.departed;
        self.all.retain(|id, member| {
            let grace = if member.expected { EXPECTED } else { GRACE };
            let stays = member
                .away
                .is_none_or(|since| now.saturating_duration_since(since) < grace);
            if !stays && let Some(usage) = member.usage.take() {
                departed.add(id, usage, now);
            }
            stays
        });
        self.departed.age(now);
    }

    /// Takes the use of a member; false if this instance of `id` is none.
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

    /// The use of every member that reports it.
    pub(crate) fn usages(&self) -> impl Iterator<Item = &Usage> {
        self.all.values().filter_map(|member| member.usage.as_ref())
    }

    /// The state of every deployment that a member reported.
    pub(crate) fn backends_page(&self, now_ms: u64) -> BackendsPage {
        let reports = self.all.iter().filter_map(|(id, member)| {
            let usage = member.usage.as_ref()?;
            Some((id.as_str(), usage.deployments()))
        });
        backends_page(reports, self.count(), now_ms)
    }

    pub(crate) const fn departed(&self) -> &Departed {
        &self.departed
    }

    pub(crate) const fn departed_mut(&mut self) -> &mut Departed {
        &mut self.departed
    }

    /// Whether a member counts in a shared store. Then there is no carryover: the store has it all.
    pub(crate) fn share_a_store(&self) -> bool {
        self.usages().any(|usage| usage.store() != StoreState::None)
    }

    /// The state for the next operator.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let live = self.all.iter().filter_map(|(id, member)| {
            let usage = member.usage.as_ref()?;
            Some((id, usage, false))
        });
        let departed = self.departed.recent();
        let all = live.chain(departed.map(|(id, usage)| (id, usage, true)));
        let mut usages = Vec::new();
        for (id, usage, gone) in all {
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

    /// Takes the checkpoint of the operator before this one. Its replicas are expected for a while;
    /// those that do not come count as departed.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint, now: Instant) {
        self.departed.restore(checkpoint);
        for (index, replica) in checkpoint.replicas.iter().enumerate() {
            let usage = Usage::restored(&replica.instance, checkpoint, index);
            if replica.gone {
                self.departed.add(&replica.id, usage, now);
            } else {
                let member = Member {
                    away: Some(now),
                    expected: true,
                    usage: Some(usage),
                    ..Member::default()
                };
                self.all.insert(replica.id.clone(), member);
            }
        }
    }

    /// Records that a member applied the publication of `sequence`, except for the entries that it
    /// cannot enforce; false if `id` is not a member.
    pub(crate) fn applied(
        &mut self,
        id: &str,
        sequence: u64,
        unsupported: Vec<Unsupported>,
    ) -> bool {
        let Some(member) = self.all.get_mut(id) else {
            return false;
        };
        // Acknowledgements may overtake each other; a proxy never goes back.
        if member.acked <= Some(sequence) {
            member.acked = Some(sequence);
            let known = unsupported.into_iter().filter_map(|one| {
                // An entry of ours always has a name.
                Some((EntryName::parse(&one.entry)?, one.needs))
            });
            member.unsupported = Arc::new(known.collect());
        }
        if member
            .refused
            .as_ref()
            .is_some_and(|(at, _)| *at <= sequence)
        {
            member.refused = None;
        }
        true
    }

    /// Records that a member refused the publication of `sequence`; false if `id` is none.
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

    pub(crate) fn snapshot(&self) -> Fleet {
        let present = self.all.iter().filter(|(_, member)| !member.expected);
        let replica = |(id, member): (&String, &Member)| Replica {
            id: id.clone(),
            acked: member.acked,
            refused: member.refused.clone(),
            unsupported: Arc::clone(&member.unsupported),
            store_lost: member
                .usage
                .as_ref()
                .is_some_and(|usage| usage.store() == StoreState::Lost),
            tokenless: member
                .usage
                .as_ref()
                .map_or_else(Arc::default, |usage| Arc::clone(usage.tokenless())),
            outages: member.usage.as_ref().map_or_else(Arc::default, |usage| {
                Arc::clone(usage.deployments().outages())
            }),
        };
        Fleet {
            replicas: present.map(replica).collect(),
        }
    }
}
