//! Follows every address of every operator for as long as it is one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::task;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::config::{Config, ConfigError, Operator};
use crate::connection::{ChannelError, Connection};
use crate::last_good;
use crate::live::{Live, Update};
use crate::metrics::Metrics;
use crate::reports::{self, Counted};
use crate::session::Session;

/// How often names are looked up again: a new operator replica is followed within this.
const RESOLVE: Duration = Duration::from_secs(10);

/// A name that does not resolve yet, as at the installation, is tried sooner.
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);

/// Longest look-up.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last report may take once we are to stop.
const LEAVE: Duration = Duration::from_secs(2);

/// One address that is followed.
struct Followed {
    /// Cleared when the name no longer has the address: it is followed until the connection ends.
    wanted: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Follows the operators of `config` until `shutdown`. First gives the last good table to `sink`, if
/// there is one, then every newer table, from whichever operator has it first.
///
/// The sink is called from this future's runtime, one call at a time; it should only store what it
/// is given. `counted` is asked every two seconds, and its answer told to every operator.
///
/// # Errors
/// The settings are wrong. Nothing that happens later ends it.
pub async fn follow(
    config: Config,
    metrics: Metrics,
    sink: impl Fn(Update) + Send + Sync + 'static,
    counted: impl Fn() -> Counted + Send + Sync + 'static,
    mut shutdown: Shutdown,
) -> Result<(), ConfigError> {
    let operators = config.parsed()?;
    let config = Arc::new(config);
    let live = Arc::new(Live::new(Box::new(sink), metrics.clone()));
    let mut keeper = None;
    if let Some(path) = config.last_good.clone() {
        last_good::restore(&path, &live);
        let keep = last_good::keep(path, config.keep_credentials, live.newest());
        keeper = Some(task::spawn("last good table", keep));
    }
    // A replica that starts again has the same name, and its counters begin anew.
    let instance: Arc<str> = format!("{:016x}", rand::random::<u64>()).into();
    let (newest, reports) = watch::channel(Bytes::new());
    let collect = reports::collect(
        Box::new(counted),
        (config.replica.clone(), instance.as_ref().to_owned()),
        newest,
        live.replicas(),
        (metrics, shutdown.clone()),
    );
    let collector = task::spawn("reports", collect);
    let mut resolvers = Vec::new();
    for operator in operators {
        let following = Following {
            config: Arc::clone(&config),
            instance: Arc::clone(&instance),
            live: Arc::clone(&live),
            reports: reports.clone(),
        };
        let resolve = resolve(following, operator, shutdown.clone());
        resolvers.push(task::spawn("operator addresses", resolve));
    }
    shutdown.requested().await;
    finished("reports", collector).await;
    for resolver in resolvers {
        finished("operator addresses", resolver).await;
    }
    // The last reference: the keeper writes what it has not written yet, and ends.
    drop(live);
    if let Some(keeper) = keeper {
        finished("last good table", keeper).await;
    }
    Ok(())
}

/// Waits for a task that has been asked to end; a panic has been logged where it happened.
async fn finished(name: &'static str, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        warn!(task = name, %error, "a task did not end by itself");
    }
}

/// What every followed address has in common.
#[derive(Clone)]
struct Following {
    config: Arc<Config>,
    /// Which life of the replica this is.
    instance: Arc<str>,
    live: Arc<Live>,
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
        // Without an answer everything stays as it is: an outage of DNS is none of the channel.
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

/// The addresses of the operator now; `None` if they could not be looked up.
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

/// One address of one operator.
struct One {
    following: Following,
    operator: Operator,
    address: SocketAddr,
    wanted: Arc<AtomicBool>,
}

/// Takes a subscription out of the counts, however it ends.
struct Connected<'a> {
    live: &'a Live,
    address: SocketAddr,
}

impl One {
    async fn follow(self, mut shutdown: Shutdown) {
        let mut backoff = Backoff::default();
        // Cleared when an operator's delta did not fit what we said that we have.
        let mut trusted = true;
        while self.wanted.load(Ordering::Relaxed) {
            let subscribed = self.subscribe(trusted, &mut backoff, &mut shutdown).await;
            if shutdown.is_requested() {
                return;
            }
            trusted = true;
            match subscribed {
                Ok(()) => debug!(address = %self.address, "the operator ended the subscription"),
                Err(ChannelError::OutOfStep(reason)) => {
                    trusted = false;
                    debug!(address = %self.address, reason, "asking for a whole table");
                }
                Err(error @ ChannelError::Refused { .. }) => {
                    warn!(address = %self.address, %error, "the operator does not let us in");
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
        backoff: &mut Backoff,
        shutdown: &mut Shutdown,
    ) -> Result<(), ChannelError> {
        let Following {
            config,
            instance,
            live,
            reports,
        } = &self.following;
        let view = live.current().filter(|_| trusted);
        let opening = async {
            let mut connection = Connection::open(config, &self.operator, self.address).await?;
            let have = view.as_ref().map(|version| &*version.digest);
            let body = connection.subscribe(instance, have).await?;
            Ok::<_, ChannelError>((connection, body))
        };
        let (connection, body) = tokio::select! {
            opened = opening => opened?,
            () = shutdown.requested() => return Ok(()),
        };
        live.metrics().connected.inc();
        let _connected = Connected {
            live,
            address: self.address,
        };
        debug!(address = %self.address, "subscribed");
        let mut session = Session::new(live, self.address, &config.replica, view);
        let late = async {
            shutdown.requested().await;
            sleep(LEAVE).await;
        };
        let ended = tokio::select! {
            ended = session.run(&connection, body) => ended,
            // It has delivered the last report.
            () = reports::deliver(connection.clone(), reports.clone(), live.metrics()) => Ok(()),
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
        self.live.metrics().connected.dec();
        self.live.gone(self.address);
    }
}
