//! Faults on demand: a list of rules, of which the first that matches a request applies to it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// One rule. Without `deployment`, `api_key` and `operation` it matches every request that is well
/// formed, authenticated and within its limits. What it does is the union of its fields: first the
/// delay, then one of hang, status or answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Only requests to this deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Only requests with this key (the raw key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Only requests for this operation, by the name that the table of routes has, such as
    /// `ChatCompletions_Create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Answer this status (200 to 599) instead of generating.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body for that status: a string is sent as it is, anything else as JSON. None: Azure's own
    /// body for the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Headers to add, or to set instead of the usual value; with or without a status.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Refuse requests whose body has this member, as models do that do not know it; others are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<String>,
    /// Wait before the first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// After this many chunks of a stream drop the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_after_chunks: Option<u64>,
    /// Never answer; with `cut_after_chunks`, fall silent there instead of dropping.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hang: bool,
    /// Send half of the body, then drop the connection; in a stream, half of the chunk that follows
    /// `cut_after_chunks`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
    /// End the stream after `cut_after_chunks` chunks (0 if absent) in Azure's way: an error event,
    /// then a proper end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stream_error: bool,
    /// Write the events of streams in another of the ways that the standard allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// Apply this often, then no more. None: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// A way to write server-sent events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// No space after the colon of a field.
    Tight,
    /// Lines end with CR and LF.
    Crlf,
    /// A comment before each event.
    Comments,
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidFault {
    /// Below 200 or above 599.
    #[error("status {0} is no final status: use 200 to 599")]
    Status(u16),
    /// A name or value that cannot be sent.
    #[error("header '{0}' cannot be sent")]
    Header(String),
    /// A body without a status would never be sent.
    #[error("body needs a status")]
    BodyWithoutStatus,
}

/// Checks what the types cannot.
pub(crate) fn check(faults: &[Fault]) -> Result<(), InvalidFault> {
    for fault in faults {
        if let Some(status) = fault.status.filter(|status| !(200..600).contains(status)) {
            return Err(InvalidFault::Status(status));
        }
        if fault.body.is_some() && fault.status.is_none() {
            return Err(InvalidFault::BodyWithoutStatus);
        }
        for (name, value) in &fault.headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return Err(InvalidFault::Header(name.clone()));
            }
        }
    }
    Ok(())
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Mutex<Vec<Fault>>,
    /// Spares the lock while there is no rule.
    any: AtomicBool,
}

impl Faults {
    pub(crate) fn replace(&self, faults: Vec<Fault>) {
        let mut rules = self.rules.lock();
        self.any.store(!faults.is_empty(), Ordering::Release);
        *rules = faults;
    }

    pub(crate) fn left(&self) -> Vec<Fault> {
        self.rules.lock().clone()
    }

    /// The first rule that matches, counted down.
    pub(crate) fn take(
        &self,
        deployment: Option<&str>,
        key: &str,
        operation: &str,
    ) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let fits =
            |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        let mut rules = self.rules.lock();
        let rule = rules.iter_mut().find(|rule| {
            rule.times != Some(0)
                && fits(&rule.deployment, deployment)
                && fits(&rule.api_key, Some(key))
                && fits(&rule.operation, Some(operation))
        })?;
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
        }
        let taken = rule.clone();
        rules.retain(|rule| rule.times != Some(0));
        self.any.store(!rules.is_empty(), Ordering::Release);
        Some(taken)
    }
}
