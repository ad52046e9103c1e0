//! The simulated resource: what all connections share.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    answer::Answer,
    auth::Keyring,
    cache::PromptCache,
    clock::Clock,
    config::Config,
    deployment::Deployment,
    entra::{Entra, Now},
    faults::Faults,
    limits::Cost,
    record::{Billed, Log},
    state::{
        Shelf,
        audio::Spoken,
        batch::Batch,
        container::Container,
        conversation::Conversation,
        file::{StoredFile, Upload},
        response::Stored,
        vector_store::VectorStore,
    },
};

/// One resource.
#[derive(Debug)]
pub(crate) struct Foundry {
    pub(crate) clock: Clock,
    pub(crate) keys: Keyring,
    pub(crate) entra: Entra,
    pub(crate) deployments: HashMap<String, Arc<Deployment>>,
    pub(crate) cache: PromptCache,
    pub(crate) answer: Arc<Answer>,
    pub(crate) latency: Duration,
    pub(crate) token_interval: Duration,
    pub(crate) end_delay: Duration,
    pub(crate) region: HeaderValue,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) billed: Mutex<Billed>,
    pub(crate) responses: Mutex<Shelf<Stored>>,
    pub(crate) conversations: Mutex<Shelf<Conversation>>,
    pub(crate) files: Mutex<Shelf<StoredFile>>,
    pub(crate) uploads: Mutex<Shelf<Upload>>,
    pub(crate) vector_stores: Mutex<Shelf<VectorStore>>,
    pub(crate) containers: Mutex<Shelf<Container>>,
    pub(crate) spoken: Mutex<Shelf<Spoken>>,
    pub(crate) batches: Mutex<Shelf<Batch>>,
    /// Time that a response in the background takes, or a batch.
    pub(crate) background_time: Duration,
    /// What only this resource can open begins with it.
    seal: u64,
    /// Ids of responses in the background that are not billed yet.
    unbilled: Mutex<Vec<(String, Option<String>)>>,
    /// Those of batches that have not ended.
    open_batches: Mutex<Vec<(String, Option<String>)>>,
    /// Told whenever a request has come in, or has come to its end.
    pub(crate) changed: Notify,
    ids: AtomicU64,
}

impl Foundry {
    pub(crate) fn new(config: &Config) -> Self {
        let deployments = config.deployments.iter().map(|settings| {
            let deployment = Deployment::new(settings, config.request_window);
            (settings.name.clone(), Arc::new(deployment))
        });
        Self {
            clock: Clock::start(),
            keys: Keyring::new(&config.api_keys),
            entra: Entra::default(),
            deployments: deployments.collect(),
            cache: PromptCache::default(),
            answer: Arc::new(Answer::new(config.completion_tokens)),
            latency: config.latency,
            token_interval: config.token_interval,
            end_delay: config.end_delay,
            region: header_value(&config.region),
            faults: Faults::default(),
            log: Log::new(config.record),
            billed: Mutex::default(),
            responses: Mutex::default(),
            conversations: Mutex::default(),
            files: Mutex::default(),
            uploads: Mutex::default(),
            vector_stores: Mutex::default(),
            containers: Mutex::default(),
            spoken: Mutex::default(),
            batches: Mutex::default(),
            background_time: config.background_time,
            seal: rand::random(),
            unbilled: Mutex::default(),
            open_batches: Mutex::default(),
            changed: Notify::new(),
            ids: AtomicU64::new(rand::random()),
        }
    }

    /// The time, twice.
    pub(crate) fn now(&self) -> Now {
        let since_start = self.clock.now();
        Now {
            since_start,
            unix_s: self.clock.unix(since_start).as_secs(),
        }
    }

    /// 64 bits that do not repeat: a counter, mixed by SplitMix64's finalizer (a bijection).
    pub(crate) fn fresh_id(&self) -> u64 {
        let mut z = self.ids.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A fresh id of an object, such as `resp_...`.
    pub(crate) fn object_id(&self, prefix: &str) -> String {
        let (a, b, c) = (self.fresh_id(), self.fresh_id(), self.fresh_id());
        format!("{prefix}_{a:016x}{b:016x}{c:016x}")
    }

    /// Content that only this resource can open: it is bound to its host and key.
    pub(crate) fn sealed(&self) -> String {
        format!("gAAAAAB{:016x}{:016x}", self.seal, self.fresh_id())
    }

    pub(crate) fn has_sealed(&self, content: &str) -> bool {
        content.starts_with(&format!("gAAAAAB{:016x}", self.seal))
    }

    /// Keeps a response that goes on in the background.
    pub(crate) fn keep_unbilled(&self, id: &str, stored: Stored) {
        let project = stored.project.clone();
        self.responses.lock().insert(id, stored);
        self.unbilled.lock().push((id.to_owned(), project));
    }

    /// Keeps a batch.
    pub(crate) fn keep_batch(&self, batch: Batch) {
        let (id, project) = (batch.id.clone(), batch.project.clone());
        self.batches.lock().insert(&id, batch);
        self.open_batches.lock().push((id, project));
    }

    /// Bills the batches that have ended since the last time, and keeps their files.
    fn settle_batches(&self) {
        let mut open = self.open_batches.lock();
        let now = self.clock.now();
        let mut batches = self.batches.lock();
        open.retain(|(id, project)| {
            let Some(batch) = batches.get_mut(id, project.as_deref()) else {
                return false;
            };
            let Some(outcome) = batch.settle(now) else {
                return true;
            };
            let mut files = self.files.lock();
            for file in outcome.files {
                files.insert(&file.id.clone(), file);
            }
            let mut billed = self.billed.lock();
            for (deployment, key, usage) in outcome.bills {
                billed.add(&deployment.name, &key, usage);
            }
            false
        });
    }

    /// Bills what has ended in the background since the last time.
    pub(crate) fn settle_background(&self) {
        self.settle_batches();
        let mut unbilled = self.unbilled.lock();
        if unbilled.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut responses = self.responses.lock();
        unbilled.retain(|(id, project)| {
            let Some(stored) = responses.get_mut(id, project.as_deref()) else {
                return false;
            };
            let Some(bill) = stored.bill(now) else {
                return true;
            };
            let usage = bill.usage.unwrap_or_default();
            bill.deployment
                .meter
                .settle(now, bill.cost, Cost::of(usage));
            if bill.usage.is_some() {
                self.billed
                    .lock()
                    .add(&bill.deployment.name, &bill.key, usage);
            }
            false
        });
    }
}

/// A header value; text that cannot be one becomes empty rather than stopping a test's simulator.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
