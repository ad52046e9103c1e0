//! All identities of the process, found by what the table declares.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use proxy_admin::shutdown::{self, Shutdown};
use proxy_core::table::Identity;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::error;

use crate::config::Config;
use crate::credential::Credential;
use crate::exchange::Client;
use crate::keeper::Keeper;
use crate::metrics::{Handles, Metrics};
use crate::provider::Provider;

#[cfg(test)]
mod tests;

/// All identities of the process.
#[derive(Debug)]
pub struct Identities {
    config: Arc<Config>,
    client: Client,
    metrics: Metrics,
    known: Mutex<HashMap<Arc<Identity>, Weak<Credential>, RandomState>>,
    /// Tasks that [`Identities::run`] has not started yet.
    waiting: Mutex<Vec<Keeper>>,
    arrived: Notify,
}

impl Identities {
    /// None yet.
    #[must_use]
    pub fn new(config: Config, metrics: Metrics) -> Self {
        Self {
            config: Arc::new(config),
            client: Client::unbounded(),
            metrics,
            known: Mutex::default(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// The credential of an identity: the same one as long as anything holds it. Its first fetch begins at
    /// once, if [`Identities::run`] runs. `before` is what the same backend showed so far: after a rotation
    /// of a secret its token is shown until the new one has come.
    pub fn credential(&self, identity: &Identity, before: Option<&Credential>) -> Arc<Credential> {
        let mut known = self.known.lock();
        if let Some(credential) = known.get(identity).and_then(Weak::upgrade) {
            return credential;
        }
        known.retain(|_, credential| credential.strong_count() > 0);
        let identity = Arc::new(identity.clone());
        let (trigger, shutdown) = shutdown::channel();
        let credential = Arc::new(Credential::new(Arc::clone(&identity), before, trigger));
        known.insert(Arc::clone(&identity), Arc::downgrade(&credential));
        drop(known);
        self.waiting.lock().push(Keeper {
            metrics: self.metrics.of(&identity),
            shared: Arc::clone(&credential.shared),
            identity,
            shutdown,
        });
        self.arrived.notify_one();
        credential
    }

    /// Fetches tokens until `shutdown`.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        loop {
            for keeper in std::mem::take(&mut *self.waiting.lock()) {
                let provider = Provider {
                    identity: Arc::clone(&keeper.identity),
                    config: Arc::clone(&self.config),
                    client: self.client.clone(),
                };
                tasks.spawn(async move { keeper.run(|| provider.fetch()).await });
            }
            tokio::select! {
                () = self.arrived.notified() => {}
                Some(ended) = tasks.join_next() => match ended {
                    Ok(metrics) => self.retire(&metrics),
                    Err(error) => error!(%error, "the task of an identity ended before its time"),
                },
                () = shutdown.requested() => return,
            }
        }
    }

    /// Another identity may have the same series.
    fn retire(&self, metrics: &Handles) {
        let known = self.known.lock();
        let mut live = known.iter().filter(|(_, one)| one.strong_count() > 0);
        if !live.any(|(identity, _)| metrics.are_of(identity)) {
            metrics.retire();
        }
    }
}
