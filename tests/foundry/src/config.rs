//! What a simulator is started with. The defaults stand here once; `Args` takes them from here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    str::FromStr,
    time::Duration,
};

use thiserror::Error;

pub(crate) const DEFAULT_KEY: &str = "sim-key";
pub(crate) const DEFAULT_COMPLETION_TOKENS: u32 = 16;
/// Longer than a client takes that closes at `[DONE]`.
const DEFAULT_END_DELAY: Duration = Duration::from_millis(1);
/// Long enough to be polled twice.
const DEFAULT_BACKGROUND_TIME: Duration = Duration::from_secs(1);
pub(crate) const DEFAULT_RECORD: usize = 10_000;
pub(crate) const DEFAULT_REGION: &str = "Sweden Central";
/// Unlimited, so that a benchmark meets no limit that it did not ask for.
pub(crate) const DEFAULT_DEPLOYMENTS: [&str; 13] = [
    "gpt-4o-mini=gpt-4o-mini-2024-07-18",
    "gpt-4o=gpt-4o-2024-11-20",
    "gpt-5=gpt-5-2025-08-07",
    "gpt-5-mini=gpt-5-mini-2025-08-07",
    "gpt-5.5=gpt-5.5-2026-04-23",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "gpt-3.5-turbo-instruct",
    "gpt-image-2=gpt-image-2-2026-04-21",
    "gpt-4o-mini-tts=gpt-4o-mini-tts-2025-12-15",
    "omni-moderation-latest",
];
/// Azure grants older chat models six requests per thousand tokens of a minute. It grants tokens by
/// the thousand, so a smaller limit, as tests have it, says nothing about requests.
const REQUESTS_PER_THOUSAND_TOKENS: u64 = 6;
/// A longer answer than any model gives; the text is built once, in memory.
pub(crate) const MAX_COMPLETION_TOKENS: u32 = 131_072;

/// Settings of a simulator. `default()` listens on a free loopback port.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Keys that are accepted, until `PUT /_sim/keys` replaces them.
    pub api_keys: Vec<String>,
    /// Deployments by name; of two with one name the last counts.
    pub deployments: Vec<DeploymentConfig>,
    /// Time from the whole request to the first byte of the answer.
    pub latency: Duration,
    /// Time between two token chunks of a stream.
    pub token_interval: Duration,
    /// Time before `[DONE]`, and again before the end of a stream's body: Azure writes each apart. 0
    /// writes what is ready as one.
    pub end_delay: Duration,
    /// Time that a response in the background takes, half of which it is queued, and that a batch takes.
    pub background_time: Duration,
    /// Tokens of an answer that the caller does not cap, at most 131,072.
    pub completion_tokens: u32,
    /// Threads that serve connections, each with a runtime of its own.
    pub threads: NonZeroUsize,
    /// Requests that are remembered; 0 remembers none.
    pub record: usize,
    /// Span over which requests per minute are judged: Azure uses 1 s or 10 s, so that a legal
    /// minute can still be refused.
    pub request_window: Duration,
    /// The value of `x-ms-region`.
    pub region: String,
}

/// One deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentConfig {
    /// What requests name.
    pub name: String,
    /// The underlying model: what answers carry in `model`.
    pub model: String,
    /// What it can take.
    pub capacity: Capacity,
    /// Which tokens of its answers belong to a class of their own.
    pub classes: Classes,
    /// Whether it has the prompt cache of the resource: then this says what is cached, and not the classes.
    pub has_cache: bool,
}

/// Tokens of each answer that are billed apart, as far as its input and its cap have room for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Of the input: read from the prompt cache.
    pub cached: u64,
    /// Of the rest of the input: written to the prompt cache.
    pub cache_write: u64,
    /// Reasoning, before and beside the visible answer.
    pub reasoning: u64,
    /// Of the visible answer: sound.
    pub audio: u64,
}

/// What a deployment can take before it answers 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Everything; such a deployment sends no rate limit headers.
    Unlimited,
    /// Pay as you go: counters that restart each minute.
    Standard {
        /// Tokens per minute, if limited.
        tokens: Option<u64>,
        /// Requests per minute, if limited.
        requests: Option<u64>,
    },
    /// Provisioned throughput: a leaky bucket.
    Provisioned {
        /// Number of units.
        units: u64,
    },
}

/// Why a deployment's description is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidDeployment {
    /// A name or model with anything but letters, digits, `.`, `_` and `-`.
    #[error("'{0}' is no deployment or model name: use letters, digits, '.', '_' and '-'")]
    Name(String),
    /// A setting that does not exist, or without a positive number.
    #[error(
        "'{0}' is no setting: use tpm=N, rpm=N, ptu=N, cached=N, cache_write=N, reasoning=N or audio=N \
         with N of at least 1, or cache=on"
    )]
    Setting(String),
    /// Both kinds of capacity.
    #[error("ptu cannot be combined with tpm or rpm")]
    MixedCapacity,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            api_keys: vec![DEFAULT_KEY.to_owned()],
            deployments: DEFAULT_DEPLOYMENTS
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            latency: Duration::ZERO,
            token_interval: Duration::ZERO,
            end_delay: DEFAULT_END_DELAY,
            background_time: DEFAULT_BACKGROUND_TIME,
            completion_tokens: DEFAULT_COMPLETION_TOKENS,
            threads: NonZeroUsize::MIN,
            record: DEFAULT_RECORD,
            request_window: Duration::from_secs(60),
            region: DEFAULT_REGION.to_owned(),
        }
    }
}

impl FromStr for DeploymentConfig {
    type Err = InvalidDeployment;

    /// Reads `NAME[=MODEL][,SETTING=N]...`; the model defaults to the name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or_default();
        let (name, model) = head.split_once('=').unwrap_or((head, head));
        for word in [name, model] {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            if word.is_empty() || !word.bytes().all(plain) {
                return Err(InvalidDeployment::Name(word.to_owned()));
            }
        }
        let (mut tokens, mut requests, mut units) = (None, None, None);
        let mut classes = Classes::default();
        let mut has_cache = false;
        for part in parts {
            if part == "cache=on" {
                has_cache = true;
                continue;
            }
            let wrong = || InvalidDeployment::Setting(part.to_owned());
            let (setting, number) = part.split_once('=').ok_or_else(wrong)?;
            let number = number.parse().ok().filter(|&number: &u64| number > 0);
            let number = number.ok_or_else(wrong)?;
            match setting {
                "tpm" => tokens = Some(number),
                "rpm" => requests = Some(number),
                "ptu" => units = Some(number),
                "cached" => classes.cached = number,
                "cache_write" => classes.cache_write = number,
                "reasoning" => classes.reasoning = number,
                "audio" => classes.audio = number,
                _ => return Err(wrong()),
            }
        }
        let capacity = match (units, tokens, requests) {
            (None, None, None) => Capacity::Unlimited,
            (None, tokens, requests) => {
                let granted = |tokens: u64| match tokens / 1000 {
                    0 => None,
                    thousands => Some(thousands.saturating_mul(REQUESTS_PER_THOUSAND_TOKENS)),
                };
                let requests = requests.or_else(|| tokens.and_then(granted));
                Capacity::Standard { tokens, requests }
            }
            (Some(units), None, None) => Capacity::Provisioned { units },
            (Some(_), _, _) => return Err(InvalidDeployment::MixedCapacity),
        };
        Ok(Self {
            name: name.to_owned(),
            model: model.to_owned(),
            capacity,
            classes,
            has_cache,
        })
    }
}
