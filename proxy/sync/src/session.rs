//! One subscription, from its first line to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proxy_wire::v1::{self, Ack, AckResult, DecodeError, Delta, Heartbeat, Line, Snapshot};
use serde::Deserialize;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::connection::{ChannelError, Connection};
use crate::lines::Lines;
use crate::live::{Live, Outcome, Version};

#[cfg(test)]
mod tests;

/// Three heartbeats: a peer that is silent for so long is gone, whatever TCP believes.
const SILENCE: Duration = Duration::from_secs(15);

/// What one subscription knows.
pub(crate) struct Session<'a> {
    live: &'a Live,
    address: SocketAddr,
    replica: &'a str,
    /// The table that the operator believes us to have; `None` after one that was not understood.
    view: Option<Version>,
    /// The newest acknowledgement.
    ack: Option<Ack>,
    /// It has been sent, or is being sent.
    told: bool,
    /// Sending it failed; it is sent again with the next heartbeat.
    untold: bool,
    /// Something came that was not what the operator meant to send.
    damaged: bool,
    /// Whether a table or a heartbeat was understood.
    pub(crate) fruitful: bool,
}

/// As much of a line that was not understood as is needed to refuse it.
#[derive(Deserialize)]
struct Head {
    revision: u64,
    digest: String,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        live: &'a Live,
        address: SocketAddr,
        replica: &'a str,
        view: Option<Version>,
    ) -> Self {
        Self {
            live,
            address,
            replica,
            view,
            ack: None,
            told: true,
            untold: false,
            damaged: false,
            fruitful: false,
        }
    }

    /// Reads until the stream ends or breaks. Acknowledgements are sent meanwhile, one at a time;
    /// the newest replaces one that waits.
    pub(crate) async fn run(
        &mut self,
        connection: &Connection,
        mut body: Incoming,
    ) -> Result<(), ChannelError> {
        let mut lines = Lines::default();
        let mut sending: Option<BoxFuture<'static, Result<(), ChannelError>>> = None;
        loop {
            if sending.is_none()
                && !self.told
                && let Some(ack) = self.ack.clone()
            {
                self.told = true;
                sending = Some(connection.clone().acknowledge(ack).boxed());
            }
            let sent = OptionFuture::from(sending.as_mut());
            tokio::select! {
                Some(result) = sent => {
                    sending = None;
                    if let Err(error) = result {
                        debug!(%error, "acknowledgement not delivered");
                        self.untold = true;
                    }
                    if self.damaged && self.told {
                        return Err(ChannelError::OutOfStep("a table was damaged".to_owned()));
                    }
                }
                frame = timeout(SILENCE, body.frame()) => {
                    let frame = frame.map_err(|_elapsed| ChannelError::TooSlow("the next line"))?;
                    let Some(frame) = frame else { return Ok(()) };
                    self.live.metrics().heard();
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
    /// The table that the operator believes us to have is not known any more: ask for a whole one.
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
                self.live.carry(self.address, carried);
                Ok(())
            }
            // Of a newer operator, and not about a table.
            Err(DecodeError::Kind(kind)) if serde_json::from_slice::<Head>(line).is_err() => {
                debug!(address = %self.address, kind, "line of an unknown kind ignored");
                Ok(())
            }
            Err(error) => {
                // Perhaps a newer operator. It may send something better, so stay.
                warn!(address = %self.address, %error, "line not understood");
                self.live.metrics().refused.inc();
                self.view = None;
                if let Ok(head) = serde_json::from_slice::<Head>(line) {
                    self.refuse(head.revision, &head.digest, &error);
                }
                Ok(())
            }
        }
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) {
        self.live.count(self.address, heartbeat.replicas);
        self.fruitful |= !self.damaged;
        if std::mem::take(&mut self.untold) {
            self.told = false;
        }
        let live = self.live.current();
        let same = live.is_some_and(|current| *current.digest == *heartbeat.digest);
        // A table that came back after another one that we never saw is a publication of its own:
        // same digest, newer revision.
        let known = self.ack.as_ref();
        let acked = known.is_some_and(|ack| {
            ack.digest == heartbeat.digest && ack.revision == heartbeat.revision
        });
        if same && !acked {
            self.applied(heartbeat.revision, &heartbeat.digest);
        }
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        let (revision, digest) = (snapshot.revision, snapshot.digest.clone());
        self.live.count(self.address, snapshot.replicas);
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
        self.live.count(self.address, delta.replicas);
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
        let outcome = self.live.offer(version.clone());
        self.view = Some(version);
        self.fruitful = true;
        match outcome {
            Outcome::Live => self.applied(revision, &digest),
            Outcome::Older => {}
            Outcome::Refused(error) => self.refuse(revision, &digest, &error),
        }
    }

    /// What came is not what the operator meant to send, so neither is what it builds on it: once
    /// that has been told, a new connection asks for a whole table, later and later.
    fn damaged(&mut self, revision: u64, digest: &str, error: &DecodeError) {
        self.live.metrics().refused.inc();
        warn!(address = %self.address, %error, "table refused");
        self.view = None;
        self.damaged = true;
        self.fruitful = false;
        self.refuse(revision, digest, error);
    }

    fn applied(&mut self, revision: u64, digest: &str) {
        self.acknowledge(revision, digest, AckResult::Applied, None);
    }

    fn refuse(&mut self, revision: u64, digest: &str, error: &impl ToString) {
        self.acknowledge(
            revision,
            digest,
            AckResult::Refused,
            Some(error.to_string()),
        );
    }

    fn acknowledge(
        &mut self,
        revision: u64,
        digest: &str,
        result: AckResult,
        error: Option<String>,
    ) {
        self.ack = Some(Ack {
            replica: self.replica.to_owned(),
            revision,
            digest: digest.to_owned(),
            result,
            error,
        });
        self.told = false;
        self.untold = false;
    }
}
