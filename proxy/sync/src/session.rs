//! One subscription, from its first line to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proxy_wire::v1::{
    self, Ack, AckResult, DecodeError, Delta, Heartbeat, Line, Snapshot, Unsupported,
};
use serde::Deserialize;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::connection::{ChannelError, Connection};
use crate::current::{Current, Outcome, Version};
use crate::lines::Lines;

#[cfg(test)]
mod tests;

/// A peer that stays silent for this many heartbeats is gone, whatever TCP believes.
const MISSED: u32 = 3;

/// The state of one subscription.
pub(crate) struct Session<'a> {
    current: &'a Current,
    address: SocketAddr,
    replica: &'a str,
    /// The table that the operator believes us to have; `None` after one that could not be read.
    view: Option<Version>,
    /// The newest acknowledgement.
    ack: Option<Ack>,
    /// It was sent, or is being sent.
    sent: bool,
    /// Sending it failed; it is sent again with the next heartbeat.
    failed: bool,
    /// A table arrived damaged.
    damaged: bool,
    /// Whether a table or a heartbeat could be read.
    pub(crate) fruitful: bool,
}

/// The part of an unreadable line that is needed to refuse it.
#[derive(Deserialize)]
struct Head {
    revision: u64,
    digest: String,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        current: &'a Current,
        address: SocketAddr,
        replica: &'a str,
        view: Option<Version>,
    ) -> Self {
        Self {
            current,
            address,
            replica,
            view,
            ack: None,
            sent: true,
            failed: false,
            damaged: false,
            fruitful: false,
        }
    }

    /// Reads until the stream ends or breaks. Sends acknowledgements meanwhile, one at a time; a newer
    /// one replaces one that waits.
    pub(crate) async fn run(
        &mut self,
        connection: &Connection,
        mut body: Incoming,
        heartbeat: Duration,
    ) -> Result<(), ChannelError> {
        let mut lines = Lines::default();
        let mut sending: Option<BoxFuture<'static, Result<(), ChannelError>>> = None;
        loop {
            if sending.is_none()
                && !self.sent
                && let Some(ack) = self.ack.clone()
            {
                self.sent = true;
                sending = Some(connection.clone().acknowledge(ack).boxed());
            }
            let sent = OptionFuture::from(sending.as_mut());
            tokio::select! {
                Some(result) = sent => {
                    sending = None;
                    if let Err(error) = result {
                        debug!(%error, "acknowledgement not delivered");
                        self.failed = true;
                    }
                    if self.damaged && self.sent {
                        return Err(ChannelError::OutOfStep("a table was damaged".to_owned()));
                    }
                }
                frame = timeout(heartbeat * MISSED, body.frame()) => {
                    let frame = frame.map_err(|_elapsed| ChannelError::TooSlow("the next line"))?;
                    let Some(frame) = frame else { return Ok(()) };
                    self.current.metrics().heard();
                    let Ok(bytes) = frame?.into_data() else { continue };
                    lines
                        .push(&bytes)
                        .map_err(|error| ChannelError::OutOfStep(error.to_string()))?;
                    while let Some(line) = lines.next() {
                        self.line(&line)?;
                    }
                }
            }
        }
    }

    /// # Errors
    /// We no longer have the table that the operator believes us to have: ask for a whole one.
    fn line(&mut self, line: &Bytes) -> Result<(), ChannelError> {
        match Line::parse(line) {
            Ok(Line::Heartbeat(heartbeat)) => {
                self.heartbeat(&heartbeat);
                Ok(())
            }
            Ok(Line::Snapshot(snapshot)) => {
                self.snapshot(snapshot);
                Ok(())
            }
            Ok(Line::Delta(delta)) => self.delta(&delta),
            Ok(Line::Carried(carried)) => {
                self.current.carry(self.address, carried);
                Ok(())
            }
            // From a newer operator, and not about a table.
            Err(DecodeError::Kind(kind)) if serde_json::from_slice::<Head>(line).is_err() => {
                debug!(address = %self.address, kind, "line of an unknown kind ignored");
                Ok(())
            }
            Err(error) => {
                // Perhaps a newer operator. A later line may be readable, so stay.
                warn!(address = %self.address, %error, "line not readable");
                self.current.metrics().refused.inc();
                self.view = None;
                if let Ok(head) = serde_json::from_slice::<Head>(line) {
                    self.refuse(head.revision, &head.digest, &error);
                }
                Ok(())
            }
        }
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) {
        self.current.confirm(heartbeat.revision, &heartbeat.digest);
        self.current.count(self.address, heartbeat.replicas);
        self.fruitful |= !self.damaged;
        if std::mem::take(&mut self.failed) {
            self.sent = false;
        }
        let Some(unsupported) = self.current.unsupported(&heartbeat.digest) else {
            return;
        };
        // A table that was replaced and restored before we saw the change is a publication of its
        // own: same digest, newer revision.
        let known = self.ack.as_ref();
        let acked = known.is_some_and(|ack| {
            ack.digest == heartbeat.digest && ack.revision == heartbeat.revision
        });
        if !acked {
            self.applied(heartbeat.revision, &heartbeat.digest, &unsupported);
        }
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        let (revision, digest) = (snapshot.revision, snapshot.digest.clone());
        self.current.count(self.address, snapshot.replicas);
        match snapshot.verified() {
            Ok(objects) => self.offer(Version {
                revision,
                digest: digest.into(),
                objects: Arc::new(objects),
            }),
            Err(error) => self.damaged(revision, &digest, &error),
        }
    }

    fn delta(&mut self, delta: &Delta) -> Result<(), ChannelError> {
        self.current.count(self.address, delta.replicas);
        let Some(view) = &self.view else {
            return Err(ChannelError::OutOfStep("a delta from nothing".to_owned()));
        };
        match v1::apply(&view.objects, &view.digest, delta) {
            Ok(objects) => {
                self.offer(Version {
                    revision: delta.revision,
                    digest: delta.digest.as_str().into(),
                    objects: Arc::new(objects),
                });
                Ok(())
            }
            Err(error @ DecodeError::Base { .. }) => {
                self.view = None;
                Err(ChannelError::OutOfStep(error.to_string()))
            }
            Err(error) => {
                self.damaged(delta.revision, &delta.digest, &error);
                Ok(())
            }
        }
    }

    fn offer(&mut self, version: Version) {
        let (revision, digest) = (version.revision, Arc::clone(&version.digest));
        let outcome = self.current.offer(version.clone());
        self.view = Some(version);
        self.fruitful = true;
        match outcome {
            Outcome::Applied(unsupported) => self.applied(revision, &digest, &unsupported),
            Outcome::Older => {}
            Outcome::Refused(error) => self.refuse(revision, &digest, &error),
        }
    }

    /// The table is not what the operator meant to send, so its later deltas do not fit either. After
    /// the acknowledgement, a new connection asks for a whole table, with growing pauses.
    fn damaged(&mut self, revision: u64, digest: &str, error: &DecodeError) {
        self.current.metrics().refused.inc();
        warn!(address = %self.address, %error, "table refused");
        self.view = None;
        self.damaged = true;
        self.fruitful = false;
        self.refuse(revision, digest, error);
    }

    fn applied(&mut self, revision: u64, digest: &str, unsupported: &[Unsupported]) {
        self.acknowledge(Ack {
            replica: self.replica.to_owned(),
            revision,
            digest: digest.to_owned(),
            result: AckResult::Applied,
            error: None,
            unsupported: unsupported.to_vec(),
        });
    }

    fn refuse(&mut self, revision: u64, digest: &str, error: &impl ToString) {
        self.acknowledge(Ack {
            replica: self.replica.to_owned(),
            revision,
            digest: digest.to_owned(),
            result: AckResult::Refused,
            error: Some(error.to_string()),
            unsupported: Vec::new(),
        });
    }

    fn acknowledge(&mut self, ack: Ack) {
        self.ack = Some(ack);
        self.sent = false;
        self.failed = false;
    }
}
