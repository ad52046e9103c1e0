//! The operator put together: controller, publisher, channel and admin port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use operator_controller::{
    CaError, Client, Compilation, Controller, Metrics, PublishedTable, TokenReviewer, connect,
    ensure_state_keys, load_or_create_ca,
};
use operator_publish::tls::{Authorities, Certificates, StoredAuthorities};
use operator_publish::{Features, Publisher, Server};
use prometheus_client::registry::Registry;
use proxy_admin::errors::chain;
use proxy_admin::http::{Admin, Readiness, Token};
use proxy_admin::shutdown::{self, Shutdown, Signals, Trigger};
use proxy_admin::task::spawn;
use proxy_admin::{clock, descriptors};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::checkpoint::restore;
use crate::config::Config;

/// The prefix of every metric of the operator.
const PREFIX: &str = "tundish_operator";

/// Pause between two attempts at the start: the API server may be starting too.
const RETRY: Duration = Duration::from_secs(2);

/// The same for what only new proxies wait for.
const RETRY_KEYS: Duration = Duration::from_secs(30);

/// Longest drain: the release of the lease is one call.
const DRAIN: Duration = Duration::from_secs(10);

/// A running operator.
#[derive(Debug)]
pub(crate) struct App {
    controller: JoinHandle<()>,
    publishing: JoinHandle<()>,
    trigger: Trigger,
    signals: Signals,
}

impl App {
    /// Opens the ports and starts the work. Waits until the API server answers.
    pub(crate) async fn start(config: Config) -> Result<Self> {
        let mut signals = Signals::listen().context("wait for signals")?;
        descriptors::raise_limit();
        let token = config.admin_token_file.map(Token::in_file).transpose()?;
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = Metrics::register(&mut registry);
        let publisher = Publisher::new(
            Features::KNOWN,
            operator_publish::Metrics::register(&mut registry),
        );
        let readiness = Readiness::default();
        let (trigger, shutdown) = shutdown::channel();
        let (quota, backends) = (publisher.clone(), publisher.clone());
        let admin = Admin::new(registry, readiness.clone())
            .with_page("/quota", move |_query| {
                Ok::<_, Infallible>(quota.usage_page())
            })
            .with_page("/backends", move |_query| {
                Ok::<_, Infallible>(backends.backends_page())
            })
            .with_token(token)
            .bind(config.admin)
            .await;
        let admin = admin.with_context(|| format!("open the admin port {}", config.admin))?;
        spawn("admin port", admin.serve(shutdown.clone()));

        let client = connect(config.kubeconfig.as_deref()).await?;
        let namespace = config.controller.own_namespace.clone();
        let ca = load_ca(&client, &namespace, &mut signals).await?;
        spawn(
            "state keys",
            make_state_keys(client.clone(), namespace.clone()),
        );
        restore(&client, &config.controller, &publisher, &mut signals).await?;
        let certificates = certificates(&ca, config.channel_names)?;
        let (account_namespace, account) = &config.proxy_account;
        let reviewer = TokenReviewer::new(
            client.clone(),
            &config.audience,
            account_namespace,
            account,
            metrics.clone(),
        );
        let tls = certificates.server_config().context("set up TLS")?;
        let listen = config.channel.listen;
        let reviewer = Arc::new(reviewer);
        let server = Server::bind(config.channel, publisher.clone(), reviewer, Some(tls)).await;
        let server = server.with_context(|| format!("open the channel {listen}"))?;
        spawn("channel", server.serve(shutdown.clone()));
        let keeping = (Arc::clone(&certificates), shutdown.clone());
        spawn("channel certificate", async move {
            keeping.0.keep(keeping.1).await
        });

        let controller = Controller::new(client, config.controller, metrics);
        let (published, publications) = watch::channel(None);
        let compilations = controller.compilations();
        let health = controller.health();
        readiness.set_detail(move || health.text());
        let publishing = publish(
            publisher.clone(),
            compilations,
            published,
            readiness,
            shutdown.clone(),
        );
        let publishing = spawn("publish", publishing);
        let running = controller.run(publications, publisher, certificates, ca, shutdown);
        Ok(Self {
            controller: spawn("controller", running),
            publishing,
            trigger,
            signals,
        })
    }

    /// Works until SIGTERM or SIGINT, then stops in order. A second signal stops it at once.
    pub(crate) async fn run(mut self) -> Result<()> {
        tokio::select! {
            _signal = self.signals.next() => {}
            // A part that ends by itself is broken; a restart may help.
            _ended = &mut self.controller => bail!("the controller ended"),
            _ended = &mut self.publishing => bail!("the publisher ended"),
        }
        info!("stopping");
        self.trigger.stop();
        tokio::select! {
            ended = self.controller => ended.context("stop the controller")?,
            () = tokio::time::sleep(DRAIN) => warn!("the drain takes too long; exiting without it"),
            _signal = self.signals.next() => warn!("stopped by a second signal, without a drain"),
        }
        info!("stopped");
        Ok(())
    }
}

/// Certificates for `names`, signed by the stored CA.
fn certificates(ca: &StoredAuthorities, names: Vec<String>) -> Result<Arc<Certificates>> {
    let signing = Authorities::load(ca).and_then(|all| all.signing());
    let issued =
        signing.and_then(|signing| Certificates::new(signing, names, clock::now().unix_ms));
    Ok(Arc::new(issued.context("use the CA")?))
}

/// The stored CA, or a new one. Waits until the API server answers.
async fn load_ca(
    client: &Client,
    namespace: &str,
    signals: &mut Signals,
) -> Result<StoredAuthorities> {
    loop {
        let made = Authorities::generate(clock::now().unix_ms).context("make a CA")?;
        match load_or_create_ca(client, namespace, || made.store()).await {
            Ok(ca) => return Ok(ca),
            Err(error @ CaError::Incomplete { .. }) => bail!(error),
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!(
                    error = format!("{error:#}"),
                    "the CA could not be loaded yet"
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _signal = signals.next() => bail!("stopped while waiting for the API server"),
        }
    }
}

/// Makes the key of stored responses, as soon as the API server lets it.
async fn make_state_keys(client: Client, namespace: String) {
    while let Err(error) = ensure_state_keys(&client, &namespace).await {
        warn!(
            error = chain(&error),
            "the key for the ids of stored responses could not be made yet"
        );
        tokio::time::sleep(RETRY_KEYS).await;
    }
}

/// Publishes every compiled table on the channel, and then passes it to the status writer.
async fn publish(
    publisher: Publisher,
    mut compilations: watch::Receiver<Option<Compilation>>,
    published: watch::Sender<Option<PublishedTable>>,
    readiness: Readiness,
    shutdown: Shutdown,
) {
    while compilations.changed().await.is_ok() {
        let Some(compilation) = compilations.borrow_and_update().clone() else {
            continue;
        };
        let contents = &compilation.compiled.contents;
        let publication = publisher.publish(compilation.revision, contents);
        published.send_replace(Some(PublishedTable {
            compilation,
            publication,
        }));
        readiness.set(!shutdown.is_requested());
    }
}
