//! The state of a publisher: the newest table, the few before it, and the lines made of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proxy_core::table::Contents;
use proxy_wire::v1::{self, Carried, Delta, Heartbeat, Line, Objects, Snapshot};
use tracing::warn;

use crate::changed_at::ChangedAt;
use crate::epoch;
use crate::fleet::Members;
use crate::usage::{self, Limits};
use crate::warnings::Warnings;

/// Publications kept as bases of deltas. They share their entries, so one costs its keys only; a
/// proxy that missed more than sixteen changes receives a snapshot.
pub(super) const KEPT: usize = 16;

/// One table that differed from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// Counts the publications of this process, from 1.
    pub sequence: u64,
    /// The digest of the table.
    pub digest: Arc<str>,
    /// For every entry of the table the sequence of the publication that last changed it.
    pub changed_at: ChangedAt,
}

/// What a follower understands. The first ones know neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// Digests by shards.
    pub(crate) by_shards: bool,
    /// Edited entries in deltas.
    pub(crate) by_edits: bool,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) contents: Contents,
    pub(super) kept: VecDeque<Kept>,
    pub(super) members: Members,
    /// Every limit of `contents`.
    pub(super) limits: Limits,
    pub(super) carryover: Carryover,
    pub(super) warnings: Warnings,
    /// Lines that lead to the newest publication, by their form and the digest that they start from. Each is built
    /// once and shared by all subscribers.
    pub(super) lines: HashMap<(Form, Option<Arc<str>>), Bytes>,
    /// The number of replicas in `lines`.
    pub(super) lines_replicas: u64,
}

/// A publication with its table.
pub(super) struct Kept {
    pub(super) publication: Publication,
    pub(super) revision: u64,
    pub(super) objects: Arc<Objects>,
    /// What the first proxies call it. Hashes all of it, so it is not made before one asks.
    pub(super) in_a_row: OnceLock<Arc<str>>,
}

impl Kept {
    /// The name of the table for a follower that knows digests by shards, or for one of the first.
    pub(super) fn digest(&self, by_shards: bool) -> &Arc<str> {
        if by_shards {
            return &self.publication.digest;
        }
        let made = || v1::digest_in_a_row(&self.objects).into();
        self.in_a_row.get_or_init(made)
    }

    /// Whether this is a name of the table.
    pub(super) fn has_digest(&self, digest: &str) -> bool {
        let old = self.in_a_row.get();
        *self.publication.digest == *digest || old.is_some_and(|old| **old == *digest)
    }
}

/// What every replica counts in addition to its own use.
#[derive(Debug, Default)]
pub(super) struct Carryover {
    pub(super) carried: Option<Carried>,
    /// Changes with `carried`.
    pub(super) version: u64,
    pub(super) line: Option<Bytes>,
    /// A table or a report has come since the last calculation.
    pub(super) due: bool,
    /// When it was last calculated, in monotonic milliseconds.
    pub(super) calculated_ms: u64,
}

// === impl State ===

impl State {
    /// The sequences of the newest publication's entries; none before the first.
    pub(super) fn changed_at(&self) -> ChangedAt {
        let newest = self.kept.back();
        newest.map_or_else(ChangedAt::default, |newest| {
            newest.publication.changed_at.clone()
        })
    }

    /// Brings the limits from those of the contents `before` to those of the present ones.
    pub(super) fn limit(&mut self, before: &Contents) {
        let changes = self.contents.quotas.changes(&before.quotas);
        usage::renew(&mut self.limits, &changes);
    }

    /// The sequence of the newest publication; 0 before the first.
    pub(super) fn newest_sequence(&self) -> u64 {
        self.kept
            .back()
            .map_or(0, |newest| newest.publication.sequence)
    }

    /// The epoch of the newest publication; 0 before the first.
    pub(super) fn epoch(&self) -> u16 {
        let newest = self.kept.back();
        newest.map_or(0, |newest| epoch::parts(newest.revision).0)
    }

    /// The line that leads from the table with the digest `from` to the newest one: a delta if that
    /// table is still kept. `None` before the first publication.
    pub(super) fn leading(&mut self, form: Form, from: Option<&Arc<str>>) -> Option<Bytes> {
        let newest = self.kept.back()?;
        let base = from.and_then(|from| {
            let mut kept = self.kept.iter();
            kept.find(|kept| kept.digest(form.by_shards) == from)
        });
        let replicas = self.members.count();
        if self.lines_replicas != replicas {
            self.lines.clear();
            self.lines_replicas = replicas;
        }
        let start = base.map(|base| Arc::clone(base.digest(form.by_shards)));
        let start = (form, start);
        if let Some(line) = self.lines.get(&start) {
            return Some(line.clone());
        }
        let line = match base {
            None => Line::Snapshot(Snapshot {
                version: v1::VERSION,
                revision: newest.revision,
                digest: newest.digest(form.by_shards).to_string(),
                replicas,
                objects: (*newest.objects).clone(),
            }),
            Some(base) => {
                let (changed, removed) = v1::diff(&base.objects, &newest.objects);
                let (changed, edited) = if form.by_edits {
                    v1::edited(&base.objects, changed)
                } else {
                    (changed, BTreeMap::new())
                };
                Line::Delta(Delta {
                    base: base.digest(form.by_shards).to_string(),
                    revision: newest.revision,
                    digest: newest.digest(form.by_shards).to_string(),
                    replicas,
                    changed,
                    edited,
                    removed,
                })
            }
        };
        let line = bytes_of(&line)?;
        self.lines.insert(start, line.clone());
        Some(line)
    }

    pub(super) fn heartbeat(&self, by_shards: bool) -> Option<Bytes> {
        let newest = self.kept.back()?;
        bytes_of(&Line::Heartbeat(Heartbeat {
            revision: newest.revision,
            digest: newest.digest(by_shards).to_string(),
            replicas: self.members.count(),
        }))
    }
}

fn bytes_of(line: &Line) -> Option<Bytes> {
    match line.to_bytes() {
        Ok(bytes) => Some(Bytes::from(bytes)),
        Err(error) => {
            warn!(%error, "a line cannot be written");
            None
        }
    }
}

// === impl Carryover ===

impl Carryover {
    /// The line that carries it. Built once and shared by all subscribers.
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
