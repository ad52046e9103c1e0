//! A gateway with its admin port: what every process that serves clients is made of.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use proxy_admin::background::Background;
use proxy_admin::http::{Admin, Readiness, Token};
use proxy_admin::shutdown::{Request, Shutdown, Signals, Trigger};
use proxy_admin::{clock, descriptors};
use proxy_admin::{shutdown, task};
use proxy_core::table::Table;
use proxy_gateway::{Config, Gateway, Metrics, Serving};
use proxy_sync::Origin;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::args::ObservabilityArgs;

/// Longest wait for the store before the gateway serves without it: about four tries.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// Longest wait for the end of what was cut: a second for the last words, and the store.
const CUT: Duration = Duration::from_secs(3);

/// A serving gateway.
#[derive(Debug)]
pub struct App {
    gateway: Gateway,
    readiness: Readiness,
    serving: Serving,
    background: Background,
    trigger: Trigger,
    signals: Signals,
    /// For everything else that runs as long as the gateway.
    pub shutdown: Shutdown,
}

/// How a gateway came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Running requests ended, or their grace period did.
    Drained,
    /// A further signal cut them.
    Cut,
}

/// Where tables are given to the gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sink {
    gateway: Gateway,
    readiness: Readiness,
}

impl Sink {
    /// Puts a table in force; from the first one on the process is ready.
    pub fn publish(&self, table: Arc<Table>) {
        self.gateway.publish(table);
        self.readiness.set(true);
    }

    /// Says where the table comes from that was published last, for `/readyz`.
    pub fn came_from(&self, origin: Origin) {
        match origin {
            Origin::Operator => self.readiness.clear_detail(),
            Origin::LastGood => self.readiness.set_detail(|| {
                "no operator has answered since the start; serving the last good table".to_owned()
            }),
            Origin::Snapshot { written_ms } => self.readiness.set_detail(move || {
                let age_ms = clock::now().unix_ms.saturating_sub(written_ms).max(0);
                let age_s = age_ms / 1_000;
                format!(
                    "no operator has answered since the start; serving the snapshot of {age_s} seconds ago"
                )
            }),
        }
    }

    /// Says whether the table is older than allowed: then clients should go to another replica.
    pub fn set_stale(&self, stale: bool) {
        self.readiness.set(!stale);
    }

    /// Says how many replicas share the limits.
    pub fn share_among(&self, replicas: u64) {
        self.gateway.share_among(replicas);
    }
}

impl App {
    /// Opens both ports. `registry` may hold metrics of others already.
    ///
    /// # Errors
    /// A port cannot be opened, or the certificate or the token cannot be used.
    pub async fn start(
        config: Config,
        observability: &ObservabilityArgs,
        mut registry: Registry,
    ) -> Result<Self> {
        // Before the process says that it is up.
        let signals = Signals::listen().context("cannot wait for signals")?;
        descriptors::raise_limit();
        let address = observability.admin;
        let token = observability.admin_token_file.clone();
        let token = token.map(Token::in_file).transpose()?;
        let metrics = Metrics::register(&mut registry);
        let gateway = Gateway::new(config, metrics);
        gateway.register_limits(&mut registry);
        gateway.register_memory(&mut registry);
        let readiness = Readiness::default();
        let (trigger, shutdown) = shutdown::channel();
        let (quota, explain, backends) = (gateway.clone(), gateway.clone(), gateway.clone());
        let admin = Admin::new(registry, readiness.clone())
            .with_page("/quota", move |_query| {
                Ok::<_, Infallible>(quota.usage_page())
            })
            .with_page("/backends", move |_query| {
                Ok::<_, Infallible>(backends.backends_page())
            })
            .with_page("/explain", move |query| explain.explain_page(query))
            .with_token(token)
            .bind(address)
            .await
            .with_context(|| format!("cannot open the admin port {address}"))?;
        let mut background = Background::default();
        gateway.start_background(&mut background);
        gateway.store_opened(FIRST_CONTACT).await;
        let serving = gateway.start(&shutdown)?;
        task::spawn("admin port", admin.serve(shutdown.clone()));
        Ok(Self {
            gateway,
            readiness,
            serving,
            background,
            trigger,
            signals,
            shutdown,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The gateway itself, for the reports of its counters.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        self.gateway.clone()
    }

    /// Where tables go.
    #[must_use]
    pub fn sink(&self) -> Sink {
        Sink {
            gateway: self.gateway.clone(),
            readiness: self.readiness.clone(),
        }
    }

    /// Serves until SIGTERM or SIGINT, then drains. After SIGTERM it serves on for `delay`, since balancers
    /// learn of it later than the process does. Each further signal ends what is waited for: the delay, the
    /// grace period, the end of what was cut.
    ///
    /// # Errors
    /// The drain failed.
    pub async fn run(mut self, delay: Duration) -> Result<Ending> {
        let request = self.signals.next().await;
        self.trigger.leave();
        if request == Request::Terminate && !delay.is_zero() {
            info!(
                seconds = delay.as_secs(),
                "asked to stop: not ready any more, and serving for the drain delay"
            );
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _signal = self.signals.next() => info!("a further signal ends the drain delay"),
            }
        }
        info!("stopping: no new connections; running requests may end");
        self.trigger.stop();
        let serving = self.serving;
        let (ended, drained) = oneshot::channel();
        // Not a blocking task: a runtime waits for those before it ends, also after another signal.
        thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                serving.join();
                ended.send(()).ok();
            })
            .context("cannot drain")?;
        let background = self.background;
        let drain = async {
            drained.await.context("the drain failed")?;
            // Not before: what running requests hold is settled there.
            background.stop().await;
            anyhow::Ok(())
        };
        let mut drain = pin!(drain);
        tokio::select! {
            drained = drain.as_mut() => drained?,
            _signal = self.signals.next() => {
                warn!("a further signal ends the grace period: running requests are cut");
                self.trigger.cut();
                tokio::select! {
                    drained = drain => drained?,
                    () = tokio::time::sleep(CUT) => warn!("exiting although requests have not ended"),
                    _signal = self.signals.next() => warn!("exiting at once by a further signal"),
                }
                return Ok(Ending::Cut);
            }
        }
        info!("stopped");
        Ok(Ending::Drained)
    }
}
