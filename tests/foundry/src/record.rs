//! Received requests with their outcomes, and what they would have cost.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{AddAssign, Deref},
    time::Duration,
};

use bytes::Bytes;
use http::request::Parts;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock;

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

/// What one request consumed, by class. Classes that are not named apart are zero and left out of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the whole input, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens produced, over all choices, reasoning included.
    pub completion_tokens: u64,
    /// Of the input: read from the prompt cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Of the input: written to the prompt cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Of the output: reasoning that the caller does not see.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
    /// Of the output: sound.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_tokens: u64,
    /// Images produced.
    #[serde(skip_serializing_if = "is_zero")]
    pub images: u64,
    /// Characters read aloud.
    #[serde(skip_serializing_if = "is_zero")]
    pub characters: u64,
    /// Seconds of sound, where those are billed.
    #[serde(skip_serializing_if = "is_zero")]
    pub seconds: u64,
}

/// Sums over requests that reached a model. What a cut stream has produced counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Requests that reached a model.
    pub requests: u64,
    #[serde(flatten)]
    usage: Usage,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What would be on the bill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    /// By name of the deployment.
    pub deployments: BTreeMap<String, Totals>,
    /// By fingerprint of the key.
    pub keys: BTreeMap<String, Totals>,
}

impl Usage {
    /// Input and output.
    pub(crate) fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cached_tokens += other.cached_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.audio_tokens += other.audio_tokens;
        self.images += other.images;
        self.characters += other.characters;
        self.seconds += other.seconds;
    }
}

impl Totals {
    fn add(&mut self, usage: Usage) {
        self.requests += 1;
        self.usage += usage;
    }
}

impl Deref for Totals {
    type Target = Usage;

    fn deref(&self) -> &Usage {
        &self.usage
    }
}

impl Billed {
    pub(crate) fn add(&mut self, deployment: &str, key: &str, usage: Usage) {
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

    pub(crate) fn open(&self, parts: &Parts, body: &Bytes, received: Duration) -> u64 {
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

    /// Changes the record of `id`, if it is still kept.
    pub(crate) fn update(&self, id: u64, change: impl FnOnce(&mut Record)) {
        if self.capacity == 0 {
            return;
        }
        let mut ring = self.ring.lock();
        let first = ring.records.front().map_or(0, |record| record.id);
        let place = id
            .checked_sub(first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(record) = place.and_then(|place| ring.records.get_mut(place)) {
            change(record);
        }
    }
}
