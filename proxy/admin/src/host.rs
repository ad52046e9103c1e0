//! Names of servers, and the addresses that they have. What was found once is used on while the resolver
//! fails or hangs, and a name is looked up by one task at a time, however many wait for it.
//!
//! The system's resolver knows the hosts file and the search list as the cluster sets them. It does not say
//! how long an answer holds, so names in use are looked up again and again.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{clock, errors, task};

#[cfg(test)]
mod tests;

/// How old an answer is when a name in use is looked up again. An address is gone once two answers in a row
/// lack it, so that a change is followed within half a minute, and a server that names some of its addresses
/// in turn keeps its connections.
const REFRESH: Duration = Duration::from_secs(10);
/// How long a failure is remembered: a name that cannot be found costs one lookup a second.
const RETRY: Duration = Duration::from_secs(1);
/// An answer that no use has kept fresh is older than this. Its addresses may have been given to others.
const STALE: Duration = Duration::from_secs(30);
/// How long a call with a stale answer waits for a new one.
const HURRY: Duration = Duration::from_millis(500);

/// A lookup that is under way.
pub type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
/// Finds the addresses of a name.
pub type Lookup = dyn Fn(&str) -> Looking + Send + Sync;

/// A host of a URL. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

struct Inner {
    written: Box<str>,
    /// `None` for an address.
    lookup: Option<Arc<Lookup>>,
    /// Counts the answers that made an address come or go.
    epoch: AtomicU64,
    known: Mutex<Known>,
    /// A lookup has ended.
    landed: Notify,
}

/// What is known of a name.
struct Known {
    /// The last answer. Empty before the first one.
    addresses: Arc<[IpAddr]>,
    /// The answer before it.
    before: Arc<[IpAddr]>,
    /// When the last answer came.
    answered: Option<Instant>,
    /// The last lookup, if it failed.
    failed: Option<(Instant, NotFound)>,
    /// When the lookup began that is under way.
    asked: Option<Instant>,
}

/// Why a name has no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("look up the name: {cause}")]
pub struct NotFound {
    cause: String,
    /// As the system numbers it.
    pub(crate) os_error: Option<i32>,
}

/// A lookup that ends, whatever happens to its task.
struct Flight {
    host: Host,
    result: Result<Arc<[IpAddr]>, NotFound>,
}

// === impl Host ===

impl Host {
    /// A host as a URL writes it, which the system's resolver looks up.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self::with_lookup(host, Arc::new(system))
    }

    /// The same with another resolver.
    #[must_use]
    pub fn with_lookup(host: &str, lookup: Arc<Lookup>) -> Self {
        let address = bare(host).parse().ok();
        let addresses: Arc<[IpAddr]> = address.into_iter().collect();
        Self(Arc::new(Inner {
            written: host.into(),
            lookup: address.is_none().then_some(lookup),
            epoch: AtomicU64::new(0),
            known: Mutex::new(Known {
                before: Arc::clone(&addresses),
                addresses,
                answered: None,
                failed: None,
                asked: None,
            }),
            landed: Notify::new(),
        }))
    }

    /// As it was given.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.0.written
    }

    /// Its addresses, in the resolver's order. Waits for the resolver only if it has not answered yet, or not
    /// for long and without a failure: then for a moment.
    ///
    /// # Errors
    /// They could not be found, now or within the last second.
    pub async fn addresses(&self) -> Result<Arc<[IpAddr]>, NotFound> {
        loop {
            let mut landed = pin!(self.0.landed.notified());
            landed.as_mut().enable();
            let now = clock::instant();
            self.refresh(now);
            let hurry = {
                let known = self.0.known.lock();
                match (known.asked, &known.failed) {
                    _ if known.is_usable(now) => return Ok(Arc::clone(&known.addresses)),
                    (None, Some((_, failed))) => return Err(failed.clone()),
                    (None, None) => continue,
                    (Some(_), _) if known.addresses.is_empty() => None,
                    (Some(asked), _) => Some(asked + HURRY),
                }
            };
            match hurry {
                None => landed.await,
                // Without an answer by then, the stale one is used.
                Some(end) => drop(tokio::time::timeout_at(end.into(), landed).await),
            }
        }
    }

    /// Whether the name has this address, by one of its last two answers.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let known = self.0.known.lock();
        known.addresses.contains(&address) || known.before.contains(&address)
    }

    /// Changes when an address may have come or gone.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Looks the name up in the background if it is time. To be called each second while it is in use.
    pub fn refresh(&self, now: Instant) {
        let Some(lookup) = &self.0.lookup else { return };
        let mut known = self.0.known.lock();
        if !known.is_due(now) {
            return;
        }
        known.asked = Some(now);
        drop(known);
        let looking = lookup(bare(&self.0.written));
        let flight = Flight::of(self);
        task::spawn("name lookup", async move {
            flight.land(answer(looking.await));
        });
    }
}

// === impl Known ===

impl Known {
    fn is_due(&self, now: Instant) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        let is_quiet = match (&self.failed, self.answered) {
            (Some((failed, _)), _) => since(*failed) >= RETRY,
            (None, Some(answered)) => since(answered) >= REFRESH,
            (None, None) => true,
        };
        self.asked.is_none() && is_quiet
    }

    /// Whether there are addresses, and nothing better comes in a moment.
    fn is_usable(&self, now: Instant) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        let is_fresh = self.answered.is_none_or(|then| since(then) < STALE);
        let comes = self.asked.is_some_and(|asked| since(asked) < HURRY) && self.failed.is_none();
        !self.addresses.is_empty() && (is_fresh || !comes)
    }
}

// === impl Flight ===

impl Flight {
    /// One that fails unless it is answered.
    fn of(host: &Host) -> Self {
        Self {
            host: host.clone(),
            result: Err(NotFound::because("the lookup was given up")),
        }
    }

    fn land(mut self, result: Result<Arc<[IpAddr]>, NotFound>) {
        self.result = result;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let inner = &self.host.0;
        let now = clock::instant();
        let mut known = inner.known.lock();
        known.asked = None;
        let result = std::mem::replace(&mut self.result, Ok(Arc::default()));
        match result {
            Ok(found) => {
                known.failed = None;
                known.answered = Some(now);
                let before = std::mem::replace(&mut known.addresses, found);
                let is_same = known.addresses.len() == before.len()
                    && known.addresses.iter().all(|one| before.contains(one));
                // What was in the answer before the last one may be gone now.
                if !is_same || known.before.iter().any(|one| !before.contains(one)) {
                    inner.epoch.fetch_add(1, Ordering::Release);
                }
                known.before = before;
            }
            Err(failed) => known.failed = Some((now, failed)),
        }
        drop(known);
        inner.landed.notify_waiters();
    }
}

// === impl NotFound ===

impl NotFound {
    fn because(cause: &str) -> Self {
        Self {
            cause: cause.to_owned(),
            os_error: None,
        }
    }
}

impl From<io::Error> for NotFound {
    fn from(error: io::Error) -> Self {
        Self {
            cause: errors::chain(&error),
            os_error: error.raw_os_error(),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("written", &self.written)
            .field("addresses", &self.known.lock().addresses)
            .finish_non_exhaustive()
    }
}

/// An IPv6 address in a URL has brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Each address once.
fn answer(found: io::Result<Vec<IpAddr>>) -> Result<Arc<[IpAddr]>, NotFound> {
    let mut each = Vec::new();
    for address in found? {
        if !each.contains(&address) {
            each.push(address);
        }
    }
    if each.is_empty() {
        return Err(NotFound::because("it has no address"));
    }
    Ok(each.into())
}

/// Asks the system's resolver, on a thread of its own.
fn system(name: &str) -> Looking {
    let name = name.to_owned();
    Box::pin(async move {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    })
}
