//! The issuers of the process: the keys of each, which one task keeps current, whichever tables list it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use proxy_admin::shutdown::{self, Shutdown, Trigger};
use proxy_core::auth::Source;
use proxy_core::reach::Reach;
use proxy_core::table::{Home, Table};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::copy::Copy;
use super::fetch::{KeySource, Outside};
use super::keys::Keys;
use super::verifier::{Declared, Issuer, Listing, Verifier};
use crate::address::Address;
use crate::config::Config;
use crate::exchange::Client;
use crate::metrics::Metrics;

/// The issuers of the process.
#[derive(Debug)]
pub struct Issuers {
    outside: Arc<Outside>,
    folder: Option<PathBuf>,
    /// Entra's host.
    authority: Address,
    metrics: Metrics,
    /// Those of the last table.
    known: Mutex<HashMap<Source, Followed, RandomState>>,
    /// Tasks that [`Issuers::run`] has not started yet.
    waiting: Mutex<Vec<(Arc<Keys>, Shutdown)>>,
    arrived: Notify,
}

/// The keys of an issuer, with the task that fetches them.
#[derive(Debug)]
struct Followed {
    keys: Arc<Keys>,
    /// Its drop ends the task.
    _task: Trigger,
}

impl Issuers {
    /// None yet. `reach` says at which addresses keys may be.
    #[must_use]
    pub fn new(config: &Config, reach: Arc<Reach>, metrics: Metrics) -> Self {
        Self {
            outside: Arc::new(Outside {
                client: Client::new(reach),
                inside: Client::unbounded(),
                api_server: config.api_server.clone(),
            }),
            folder: config.issuer_keys.clone(),
            authority: config.authority.clone(),
            metrics,
            known: Mutex::default(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// The judge for a table; `None` if no route of it lists an issuer. `before` judges for the table before,
    /// and does so for this one if the same issuers are listed. The keys of new ones are fetched at once, if
    /// [`Issuers::run`] runs.
    pub fn verifier(&self, table: &Table, before: Option<&Arc<Verifier>>) -> Option<Arc<Verifier>> {
        let declared = declared(table);
        let mut known = self.known.lock();
        known.retain(|source, _| {
            let is_listed = declared.iter().any(|one| one.source == *source);
            if !is_listed {
                self.metrics.retire_issuer(&source.issuer);
            }
            is_listed
        });
        if declared.is_empty() {
            return None;
        }
        if let Some(before) = before.filter(|before| before.is_of(&declared)) {
            return Some(Arc::clone(before));
        }
        let issuers = declared.into_iter().filter_map(|one| {
            let keys = match known.get(&one.source) {
                Some(followed) => Arc::clone(&followed.keys),
                None => {
                    let followed = self.follow(&one.source)?;
                    let keys = Arc::clone(&followed.keys);
                    known.insert(one.source.clone(), followed);
                    keys
                }
            };
            let outcomes = self.metrics.outcomes_of(&one.source.issuer);
            Some(Issuer::new(one, keys, outcomes))
        });
        let issuers = issuers.collect();
        Some(Arc::new(Verifier::new(issuers, self.authority.clone())))
    }

    fn follow(&self, source: &Source) -> Option<Followed> {
        let place = KeySource::of(source);
        let place = place.map_err(|cause| {
            warn!(issuer = %source.issuer, %cause, "the keys of an issuer can come from no such place");
        });
        let copy = self
            .folder
            .as_deref()
            .map(|folder| Copy::of(source, folder));
        let fetches = self.metrics.fetches_of(&source.issuer);
        let keys = Keys::new(place.ok()?, Arc::clone(&self.outside), copy, fetches);
        let keys = Arc::new(keys);
        let (trigger, shutdown) = shutdown::channel();
        self.waiting.lock().push((Arc::clone(&keys), shutdown));
        self.arrived.notify_one();
        Some(Followed {
            keys,
            _task: trigger,
        })
    }

    /// Fetches keys until `shutdown`.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        loop {
            for (keys, shutdown) in std::mem::take(&mut *self.waiting.lock()) {
                tasks.spawn(async move { keys.run(shutdown).await });
            }
            tokio::select! {
                () = self.arrived.notified() => {}
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    error!(%error, "the task of an issuer ended before its time");
                },
                () = shutdown.requested() => return,
            }
        }
    }
}

/// Every issuer that a route of the table lists, by the place of its keys. Routes that pass credentials on know
/// its tokens, and admit none.
fn declared(table: &Table) -> Vec<Declared> {
    let mut all: Vec<Declared> = Vec::new();
    let mut places: HashMap<&Source, usize, RandomState> = HashMap::default();
    for route in &table.contents().routes {
        let accepted = &route.authentication;
        for issuer in &accepted.issuers {
            let trust = &issuer.trust;
            let place = *places.entry(&trust.source).or_insert(all.len());
            if place == all.len() {
                all.push(Declared {
                    source: trust.source.clone(),
                    listings: Vec::new(),
                    homes: Vec::new(),
                });
            }
            let Some(known) = all.get_mut(place) else {
                continue;
            };
            let listing = Listing {
                namespace: route.name.namespace().into(),
                audiences: trust.audiences.clone(),
            };
            if !known.listings.contains(&listing) {
                known.listings.push(listing);
            }
            let is_same =
                |home: &Home| *home.namespace == *route.name.namespace() && home.trust == *trust;
            if !accepted.pass_through && !known.homes.iter().any(is_same) {
                known.homes.push(Home {
                    namespace: route.name.namespace().into(),
                    trust: trust.clone(),
                });
            }
        }
    }
    all
}
