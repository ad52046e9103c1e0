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
    clock::Clock,
    config::Config,
    deployment::Deployment,
    faults::Faults,
    record::{Billed, Log},
};

/// One resource.
#[derive(Debug)]
pub(crate) struct Foundry {
    pub(crate) clock: Clock,
    pub(crate) keys: Keyring,
    pub(crate) deployments: HashMap<String, Arc<Deployment>>,
    pub(crate) answer: Answer,
    pub(crate) latency: Duration,
    pub(crate) token_interval: Duration,
    pub(crate) end_delay: Duration,
    pub(crate) region: HeaderValue,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) billed: Mutex<Billed>,
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
            deployments: deployments.collect(),
            answer: Answer::new(config.completion_tokens),
            latency: config.latency,
            token_interval: config.token_interval,
            end_delay: config.end_delay,
            region: header_value(&config.region),
            faults: Faults::default(),
            log: Log::new(config.record),
            billed: Mutex::default(),
            changed: Notify::new(),
            ids: AtomicU64::new(rand::random()),
        }
    }

    /// 64 bits that do not repeat: a counter, mixed by SplitMix64's finalizer (a bijection).
    pub(crate) fn fresh_id(&self) -> u64 {
        let mut z = self.ids.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A header value; text that cannot be one becomes empty rather than stopping a test's simulator.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
