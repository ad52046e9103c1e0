//! Follows every address of every operator while the name resolves to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::{clock, task};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::config::{Config, ConfigError, Operator};
use crate::connection::{ChannelError, Connection};
use crate::contact::{self, Contact};
use crate::current::{Current, Update};
use crate::last_good;
use crate::metrics::Metrics;
use crate::mounted::MountedSnapshot;
use crate::reports;
use crate::session::Session;
use proxy_wire::v1::Counted;

/// Interval of name look-ups: a new operator replica is followed within this time.
const RESOLVE: Duration = Duration::from_secs(10);

/// Retry of a name that does not resolve yet, as during an installation.
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);

/// Longest wait for a look-up.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the last report after the request to stop.
const LEAVE: Duration = Duration::from_secs(2);

/// A followed address.
struct Followed {
    /// Cleared when the name no longer resolves to the address; the open connection is used to its end.
    wanted: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Follows the operators of `config` until `shutdown`. Gives `sink` the last good table first, if there
/// is one, then every newer table from whichever operator sends it first. While none answers, a mounted
/// snapshot takes the place of what is older.
///
/// Calls the sink from this future's runtime, one call at a time; it should only store the update.
/// Reads `counted` every two seconds and reports it to every operator.
///
/// # Errors
/// The settings are wrong. No later failure ends it.
pub async fn follow(
    config: Config,
    metrics: Metrics,
    sink: impl Fn(Update) + Send + Sync + 'static,
    counted: impl Fn() -> Counted + Send + Sync + 'static,
    mut shutdown: Shutdown,
) -> Result<(), ConfigError> {
    let operators = config.parsed()?;
    let config = Arc::new(config);
    let current = Arc::new(Current::new(Box::new(sink), metrics.clone()));
    let mut keeper = None;
    if let Some(path) = config.last_good.clone() {
        last_good::restore(&path, &current);
        let keep = last_good::keep(path, config.keep_credentials, current.newest());
        keeper = Some(task::spawn("last good table", keep));
    }
    let mounted = config.snapshot.clone().map(|folder| {
        let mounted = MountedSnapshot::new(folder).follow(Arc::clone(&current), shutdown.clone());
        task::spawn("mounted snapshot", mounted)
    });
    // A replica that restarts keeps its name, but its counters start at 0.
    let instance: Arc<str> = format!("{:016x}", rand::random::<u64>()).into();
    let (newest, reports) = watch::channel(Bytes::new());
    let collect = reports::collect(
        Box::new(counted),
        (config.replica.clone(), instance.as_ref().to_owned()),
        newest,
        current.replicas(),
        (metrics.clone(), shutdown.clone()),
    );
    let collector = task::spawn("reports", collect);
    let age = move || metrics.contact_age(clock::now());
    let watch = contact::watch(
        Arc::clone(&current),
        age,
        config.max_table_age,
        shutdown.clone(),
    );
    let watching = task::spawn("contact", watch);
    let mut resolvers = Vec::new();
    for operator in operators {
        let following = Following {
            config: Arc::clone(&config),
            instance: Arc::clone(&instance),
            current: Arc::clone(&current),
            reports: reports.clone(),
        };
        let resolve = resolve(following, operator, shutdown.clone());
        resolvers.push(task::spawn("operator addresses", resolve));
    }
    shutdown.requested().await;
    finished("reports", collector).await;
    finished("contact", watching).await;
    for resolver in resolvers {
        finished("operator addresses", resolver).await;
    }
    if let Some(mounted) = mounted {
        finished("mounted snapshot", mounted).await;
    }
    // The last reference: the keeper writes the newest table and ends.
    drop(current);
    if let Some(keeper) = keeper {
        finished("last good table", keeper).await;
    }
    Ok(())
}

/// Waits for a task to end; a panic was logged where it happened.
async fn finished(name: &'static str, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        warn!(task = name, %error, "task did not end cleanly");
    }
}

/// Shared by all followed addresses.
#[derive(Clone)]
struct Following {
    config: Arc<Config>,
    /// This process of the replica.
    instance: Arc<str>,
    current: Arc<Current>,
    reports: watch::Receiver<Bytes>,
}

async fn resolve(following: Following, operator: Operator, mut shutdown: Shutdown) {
    let mut followed: HashMap<SocketAddr, Followed> = HashMap::new();
    loop {
        let found = lookup(&operator).await;
        let pause = match &found {
            Some(_) => RESOLVE,
            None => RESOLVE_AGAIN,
        };
        followed.retain(|_, one| !one.task.is_finished());
        // Without an answer nothing changes: a DNS outage is not a channel outage.
        if let Some(found) = found {
            for (address, one) in &followed {
                one.wanted.store(found.contains(address), Ordering::Relaxed);
            }
            for address in found {
                followed.entry(address).or_insert_with(|| {
                    let wanted = Arc::new(AtomicBool::new(true));
                    let one = One {
                        following: following.clone(),
                        operator: operator.clone(),
                        address,
                        wanted: Arc::clone(&wanted),
                    };
                    info!(host = operator.host, %address, "following an operator");
                    let task = task::spawn("operator subscription", one.follow(shutdown.clone()));
                    Followed { wanted, task }
                });
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = shutdown.requested() => break,
        }
    }
    for (_, one) in followed {
        finished("operator subscription", one.task).await;
    }
}

/// The current addresses of the operator; `None` if the look-up failed.
async fn lookup(operator: &Operator) -> Option<Vec<SocketAddr>> {
    let looked = timeout(
        RESOLVE_TIMEOUT,
        lookup_host((operator.host.as_str(), operator.port)),
    );
    match looked.await {
        Ok(Ok(addresses)) => Some(addresses.collect()),
        Ok(Err(error)) => {
            debug!(host = operator.host, %error, "name not resolved");
            None
        }
        Err(_elapsed) => {
            debug!(host = operator.host, "name not resolved in time");
            None
        }
    }
}

/// One subscription to one address of an operator.
struct One {
    following: Following,
    operator: Operator,
    address: SocketAddr,
    wanted: Arc<AtomicBool>,
}

/// Removes a subscription from the counts, however it ends.
struct Connected<'a> {
    current: &'a Current,
    address: SocketAddr,
}

impl One {
    async fn follow(self, mut shutdown: Shutdown) {
        let mut backoff = Backoff::default();
        let mut contact = Contact::default();
        // Cleared when an operator's delta did not fit the table that we named.
        let mut trusted = true;
        while self.wanted.load(Ordering::Relaxed) {
            let state = (&mut backoff, &mut contact);
            let subscribed = self.subscribe(trusted, state, &mut shutdown).await;
            if shutdown.is_requested() {
                return;
            }
            trusted = true;
            contact.lost(self.address, subscribed.as_ref().err());
            match subscribed {
                Ok(()) => debug!(address = %self.address, "the operator ended the subscription"),
                Err(ChannelError::OutOfStep(reason)) => {
                    trusted = false;
                    debug!(address = %self.address, reason, "asking for a whole table");
                }
                Err(error @ ChannelError::Refused { .. }) => {
                    warn!(address = %self.address, %error, "subscription refused");
                }
                Err(error) => debug!(address = %self.address, %error, "no channel"),
            }
            let pause = backoff.next(&mut rand::rng());
            tokio::select! {
                () = sleep(pause) => {}
                () = shutdown.requested() => return,
            }
        }
    }

    async fn subscribe(
        &self,
        trusted: bool,
        (backoff, contact): (&mut Backoff, &mut Contact),
        shutdown: &mut Shutdown,
    ) -> Result<(), ChannelError> {
        let Following {
            config,
            instance,
            current,
            reports,
        } = &self.following;
        let view = current.version().filter(|_| trusted);
        let opening = async {
            let mut connection = Connection::open(config, &self.operator, self.address).await?;
            let have = view.as_ref();
            let have = have.map(|version| (version.revision, &*version.digest));
            let opened = connection.subscribe(instance, have).await?;
            Ok::<_, ChannelError>((connection, opened))
        };
        let (connection, (body, heartbeat)) = tokio::select! {
            opened = opening => opened?,
            () = shutdown.requested() => return Ok(()),
        };
        contact.made(self.address);
        current.metrics().connected.inc();
        let _connected = Connected {
            current,
            address: self.address,
        };
        debug!(address = %self.address, "subscribed");
        let mut session = Session::new(current, self.address, &config.replica, view);
        let late = async {
            shutdown.requested().await;
            sleep(LEAVE).await;
        };
        let ended = tokio::select! {
            ended = session.run(&connection, body, heartbeat) => ended,
            // The last report was delivered.
            () = reports::deliver(connection.clone(), reports.clone(), current.metrics()) => Ok(()),
            () = late => Ok(()),
        };
        if session.fruitful {
            backoff.reset();
        }
        ended
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.current.metrics().connected.dec();
        self.current.gone(self.address);
    }
}
