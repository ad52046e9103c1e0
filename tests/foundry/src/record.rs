//! What was received, what became of it, and what it would have cost.
//!
//! A [`Ticket`] follows one request. It is closed at the latest when it is dropped with it, whatever
//! happens: an answer, a fault, or a caller who hung up. So each request is recorded, billed and
//! settled exactly once; and before the caller sees the end of the answer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::request::Parts;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    foundry::{Deployment, Foundry},
    limits::Cost,
};

/// One received request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts up from 0, over the simulator's whole life.
    pub id: u64,
    /// Arrival of the whole request, in milliseconds since 1970.
    pub received_ms: u64,
    /// From arrival to outcome, in milliseconds.
    pub duration_ms: u64,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without `?`; empty if there is none.
    pub query: String,
    /// Headers in order of arrival, names in lower case, credentials included.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// The deployment that the request named, if it exists.
    pub deployment: Option<String>,
    /// Fingerprint of the key that was shown, accepted or not.
    pub key: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Status of the response, once there is one.
    pub status: Option<u16>,
    /// SSE events sent, `[DONE]` included.
    pub chunks: u64,
    /// What was produced and billed.
    pub usage: Usage,
}

impl Record {
    /// The first header of that name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not decided yet.
    InProgress,
    /// A whole response was handed out, an error included.
    Answered,
    /// The caller hung up before that.
    AbortedByClient,
    /// A scripted fault cut the response.
    CutByFault,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens produced, over all choices.
    pub completion_tokens: u64,
}

/// Sums over requests that reached a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests that reached a model.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens produced for them, also those of cut streams.
    pub completion_tokens: u64,
}

/// What would be on the bill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    /// By name of the deployment.
    pub deployments: BTreeMap<String, Totals>,
    /// By fingerprint of the key.
    pub keys: BTreeMap<String, Totals>,
}

impl Totals {
    fn add(&mut self, usage: Usage) {
        self.requests += 1;
        self.prompt_tokens += usage.prompt_tokens;
        self.completion_tokens += usage.completion_tokens;
    }
}

impl Billed {
    fn add(&mut self, deployment: &str, key: &str, usage: Usage) {
        for (totals, name) in [(&mut self.deployments, deployment), (&mut self.keys, key)] {
            // Looked up before entered: a name is copied once, not per request.
            match totals.get_mut(name) {
                Some(totals) => totals.add(usage),
                None => totals.entry(name.to_owned()).or_default().add(usage),
            }
        }
    }
}

/// The last requests, oldest first.
#[derive(Debug)]
pub(crate) struct Log {
    capacity: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    records: VecDeque<Record>,
    /// Sum over their bodies.
    bytes: usize,
}

/// Bodies are kept up to this sum, so that large ones don't fill the memory.
const MAX_BYTES: usize = 256 << 20;

impl Log {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ring: Mutex::default(),
        }
    }

    pub(crate) fn all(&self) -> Vec<Record> {
        self.ring.lock().records.iter().cloned().collect()
    }

    /// Forgets what is there; requests still in progress are forgotten as well.
    pub(crate) fn clear(&self) {
        let mut ring = self.ring.lock();
        ring.records.clear();
        ring.bytes = 0;
    }

    fn open(&self, parts: &Parts, body: &Bytes, received: Duration) -> u64 {
        if self.capacity == 0 {
            return 0;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let record = Record {
            id: 0,
            received_ms: clock::millis(received),
            duration_ms: 0,
            protocol: format!("{:?}", parts.version),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: text(body),
            deployment: None,
            key: None,
            outcome: Outcome::InProgress,
            status: None,
            chunks: 0,
            usage: Usage::default(),
        };
        let mut ring = self.ring.lock();
        let id = ring.next;
        ring.next += 1;
        ring.bytes += record.body.len();
        ring.records.push_back(Record { id, ..record });
        while ring.records.len() > self.capacity || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.records.pop_front() else {
                break;
            };
            ring.bytes -= oldest.body.len();
        }
        id
    }

    fn close(&self, ticket: &Ticket, now: Duration) {
        if self.capacity == 0 {
            return;
        }
        let mut ring = self.ring.lock();
        let first = ring.records.front().map_or(0, |record| record.id);
        let place = ticket
            .id
            .checked_sub(first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(record) = place.and_then(|place| ring.records.get_mut(place)) {
            record.duration_ms = clock::millis(now.saturating_sub(ticket.received));
            record.deployment = ticket.deployment.as_ref().map(|d| d.name.clone());
            record.key = ticket.key.as_deref().map(str::to_owned);
            record.outcome = ticket.outcome;
            record.status = ticket.status;
            record.chunks = ticket.chunks;
            record.usage = ticket.usage;
        }
    }
}

/// Follows one request to its end.
#[derive(Debug)]
pub(crate) struct Ticket {
    foundry: Arc<Foundry>,
    id: u64,
    received: Duration,
    pub(crate) deployment: Option<Arc<Deployment>>,
    pub(crate) key: Option<Arc<str>>,
    /// What the limits were charged, once the request was let in.
    pub(crate) charged: Option<Cost>,
    /// The request reached a model, so it is billed.
    pub(crate) reached: bool,
    pub(crate) usage: Usage,
    pub(crate) chunks: u64,
    pub(crate) status: Option<u16>,
    outcome: Outcome,
    closed: bool,
}

impl Ticket {
    pub(crate) fn open(foundry: &Arc<Foundry>, parts: &Parts, body: &Bytes) -> Self {
        let received = foundry.clock.now();
        let id = foundry.log.open(parts, body, foundry.clock.unix(received));
        foundry.changed.notify_waiters();
        Self {
            foundry: Arc::clone(foundry),
            id,
            received,
            deployment: None,
            key: None,
            charged: None,
            reached: false,
            usage: Usage::default(),
            chunks: 0,
            status: None,
            outcome: Outcome::InProgress,
            closed: false,
        }
    }

    pub(crate) fn received(&self) -> Duration {
        self.received
    }

    /// Records, bills and settles, once.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.outcome = outcome;
        let now = self.foundry.clock.now();
        if let Some(deployment) = &self.deployment {
            if let Some(charged) = self.charged {
                let Usage {
                    prompt_tokens: input,
                    completion_tokens: output,
                } = self.usage;
                deployment
                    .meter
                    .settle(now, charged, Cost { input, output });
            }
            if self.reached {
                let key = self.key.as_deref().unwrap_or_default();
                self.foundry
                    .billed
                    .lock()
                    .add(&deployment.name, key, self.usage);
            }
        }
        self.foundry.log.close(self, now);
        self.foundry.changed.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.close(Outcome::AbortedByClient);
    }
}
