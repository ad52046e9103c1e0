//! One request, from its arrival to its outcome.
//!
//! A [`Ticket`] closes at the latest when it is dropped, whatever happens: an answer, a fault, or a client
//! that disconnects. So each request is recorded, billed and settled exactly once, and before the client
//! sees the end of the answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::request::Parts;

use crate::{
    clock,
    deployment::Deployment,
    foundry::Foundry,
    limits::Cost,
    record::{Outcome, Usage},
};

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

    /// Time from now to a moment.
    pub(crate) fn until(&self, moment: Duration) -> Duration {
        moment.saturating_sub(self.foundry.clock.now())
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
                deployment.meter.settle(now, charged, Cost::of(self.usage));
            }
            if self.reached {
                let key = self.key.as_deref().unwrap_or_default();
                self.foundry
                    .billed
                    .lock()
                    .add(&deployment.name, key, self.usage);
            }
        }
        self.foundry.log.update(self.id, |record| {
            record.duration_ms = clock::millis(now.saturating_sub(self.received));
            record.deployment = self.deployment.as_ref().map(|one| one.name.clone());
            record.key = self.key.as_deref().map(str::to_owned);
            record.outcome = self.outcome;
            record.status = self.status;
            record.chunks = self.chunks;
            record.usage = self.usage;
        });
        self.foundry.changed.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.close(Outcome::AbortedByClient);
    }
}
