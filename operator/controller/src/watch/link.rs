//! Between the watch of AIBackends and that of Secrets in the same scope: the one has Secrets read again when
//! references to them change.
//!
//! The watch of Secrets begins when AIBackends were listed, so that it knows the references. From then on it alone
//! reads Secrets, one after another: nothing that it reads is older than what it has reported.

use std::collections::BTreeSet;
use std::time::Duration;

use proxy_core::names::ObjectName;
use tokio::sync::{mpsc, oneshot};

use super::referred::{Changed, Referred};
use super::update::Update;

/// Requests on their way. Each has one AIBackend waiting, so there are hardly ever two.
const REQUESTS: usize = 8;

/// Longest wait of an AIBackend for its Secrets. It is not held up for longer by a watch that fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for Secrets to be read again. Its drop says that they were.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) secrets: BTreeSet<ObjectName>,
    _done: oneshot::Sender<()>,
}

/// The part of a watch in it.
#[derive(Debug)]
pub(super) enum Link {
    /// The watch of AIBackends.
    Referring {
        requests: mpsc::Sender<Request>,
        is_listed: bool,
    },
    /// The watch of Secrets.
    Referred(mpsc::Receiver<Request>),
    /// Another watch.
    None,
}

// === impl Link ===

impl Link {
    /// The links of AIBackends and of Secrets.
    pub(super) fn pair() -> (Self, Self) {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let is_listed = false;
        let referring = Self::Referring {
            requests,
            is_listed,
        };
        (referring, Self::Referred(receiver))
    }

    /// Waits until the references are known.
    pub(super) async fn begin(&mut self) {
        if let Self::Referred(_) = self {
            self.requested().await;
        }
    }

    /// The next request for Secrets; never one to another watch.
    pub(super) async fn requested(&mut self) -> Request {
        if let Self::Referred(requests) = self
            && let Some(request) = requests.recv().await
        {
            return request;
        }
        std::future::pending().await
    }

    /// The changes of the references by a report of AIBackends. A first listing changes none that is in use.
    pub(super) fn changes(&self, update: &Update, referred: &Referred) -> Changed {
        let Self::Referring { is_listed, .. } = self else {
            return Changed::default();
        };
        match update {
            Update::Listed { scope, objects, .. } => {
                let changed = referred.list(scope.as_deref(), objects);
                if *is_listed {
                    changed
                } else {
                    Changed::default()
                }
            }
            Update::Applied(backend) => referred.put(backend),
            Update::Deleted(backend) => referred.remove(&backend.object),
            Update::Reread(_)
            | Update::Unreadable { .. }
            | Update::Unserved { .. }
            | Update::Gateways { .. }
            | Update::Epoch { .. }
            | Update::GrantsServed(_) => Changed::default(),
        }
    }

    /// Lets the watch of Secrets begin, once AIBackends are listed.
    pub(super) async fn listed(&mut self) {
        if let Self::Referring {
            requests,
            is_listed,
        } = self
            && !std::mem::replace(is_listed, true)
        {
            let (_done, _) = oneshot::channel();
            let secrets = BTreeSet::new();
            // Without a receiver the watches end.
            requests.send(Request { secrets, _done }).await.ok();
        }
    }

    /// Has Secrets read again, and waits until they were.
    pub(super) async fn read_again(&self, secrets: BTreeSet<ObjectName>) {
        let Self::Referring { requests, .. } = self else {
            return;
        };
        if secrets.is_empty() {
            return;
        }
        let (_done, answer) = oneshot::channel();
        let request = Request { secrets, _done };
        let asked = async {
            if requests.send(request).await.is_ok() {
                // An error is the drop that is waited for.
                answer.await.ok();
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.ok();
    }
}
