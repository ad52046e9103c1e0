//! The operator put together: controller, publisher, channel and admin port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use operator_controller::{
    CaError, CaPem, Client, Compilation, Controller, Fleet, Metrics, Publication, Replica,
    TokenReviewer, connect, load_or_create_ca,
};
use operator_publish::{Features, Publisher, Server};
use prometheus_client::registry::Registry;
use proxy_admin::http::{Admin, Readiness};
use proxy_admin::shutdown::{self, Shutdown, Trigger};
use proxy_admin::task::spawn;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::certificates::{ChannelAuthority, certificates, generate};
use crate::checkpoint::{PublisherCheckpoint, restore};
use crate::config::Config;
use crate::reviewer::ClusterReviewer;

/// What every metric of the operator begins with.
const PREFIX: &str = "tundish_operator";

/// How soon the API server is asked again at the start.
const RETRY: Duration = Duration::from_secs(2);

/// How long the end may take: giving the lease back is one call.
const DRAIN: Duration = Duration::from_secs(10);

/// A running operator.
#[derive(Debug)]
pub(crate) struct App {
    controller: JoinHandle<()>,
    publishing: JoinHandle<()>,
    trigger: Trigger,
}

impl App {
    /// Opens the ports and starts the work. Waits for the API server if it does not answer.
    pub(crate) async fn start(config: Config) -> Result<Self> {
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = Metrics::register(&mut registry);
        let publisher = Publisher::new(
            Features::KNOWN,
            operator_publish::Metrics::register(&mut registry),
        );
        let readiness = Readiness::default();
        let (trigger, shutdown) = shutdown::channel();
        let quota = publisher.clone();
        let admin = Admin::new(registry, readiness.clone())
            .with_page("/quota", move |_query| {
                Ok::<_, Infallible>(quota.usage_page())
            })
            .bind(config.admin)
            .await;
        let admin = admin.with_context(|| format!("open the admin port {}", config.admin))?;
        spawn("admin port", admin.serve(shutdown.clone()));

        let client = connect(config.kubeconfig.as_deref()).await?;
        let namespace = config.controller.own_namespace.clone();
        let ca = load_ca(&client, &namespace).await?;
        restore(&client, &config.controller, &publisher).await?;
        let certificates = certificates(&ca, config.channel_names).context("use the CA")?;
        let (account_namespace, account) = &config.proxy_account;
        let reviewer = ClusterReviewer(TokenReviewer::new(
            client.clone(),
            &config.audience,
            account_namespace,
            account,
            metrics.clone(),
        ));
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
        let (fleet_sender, fleet) = watch::channel(Fleet::default());
        spawn("fleet", follow_fleet(publisher.fleet(), fleet_sender));
        let compilations = controller.compilations();
        let checkpoint = PublisherCheckpoint(publisher.clone());
        let publishing = publish(
            publisher,
            compilations,
            published,
            readiness,
            shutdown.clone(),
        );
        let publishing = spawn("publish", publishing);
        let authority = (ChannelAuthority(certificates), ca);
        let running = controller.run(publications, fleet, authority, checkpoint, shutdown);
        Ok(Self {
            controller: spawn("controller", running),
            publishing,
            trigger,
        })
    }

    /// Works until SIGTERM or SIGINT, then stops in order. A second signal ends it at once.
    pub(crate) async fn run(mut self) -> Result<()> {
        tokio::select! {
            signalled = shutdown::signalled() => signalled.context("wait for signals")?,
            // Whatever ends on its own is broken; a restart may help.
            _ended = &mut self.controller => bail!("the controller ended"),
            _ended = &mut self.publishing => bail!("the publisher ended"),
        }
        info!("stopping");
        self.trigger.stop();
        tokio::select! {
            ended = self.controller => ended.context("stop the controller")?,
            () = tokio::time::sleep(DRAIN) => warn!("stopping takes too long; leaving"),
            signalled = shutdown::signalled() => signalled.context("wait for signals")?,
        }
        info!("stopped");
        Ok(())
    }
}

/// The stored CA, or a new one. Without the API server there is nothing to do but wait for it.
async fn load_ca(client: &Client, namespace: &str) -> Result<CaPem> {
    loop {
        let made = generate().context("make a CA")?;
        match load_or_create_ca(client, namespace, || made).await {
            Ok(ca) => return Ok(ca),
            Err(error @ CaError::Incomplete { .. }) => bail!(error),
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!(error = format!("{error:#}"), "no CA yet; asking again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            signalled = shutdown::signalled() => {
                signalled.context("wait for signals")?;
                bail!("stopped while waiting for the API server");
            }
        }
    }
}

/// Hands every compiled table to the channel, and then to those who write about it.
async fn publish(
    publisher: Publisher,
    mut compilations: watch::Receiver<Option<Compilation>>,
    published: watch::Sender<Option<Publication>>,
    readiness: Readiness,
    shutdown: Shutdown,
) {
    while compilations.changed().await.is_ok() {
        let Some(compilation) = compilations.borrow_and_update().clone() else {
            continue;
        };
        publisher.publish(compilation.revision, &compilation.compiled.contents);
        let entries = publisher.clone();
        published.send_replace(Some(Publication {
            compilation,
            changed_at: Arc::new(move |key| entries.changed_at(key)),
        }));
        readiness.set(!shutdown.is_requested());
    }
}

/// The fleet in the controller's words.
async fn follow_fleet(
    mut fleet: watch::Receiver<operator_publish::Fleet>,
    sender: watch::Sender<Fleet>,
) {
    while fleet.changed().await.is_ok() {
        let replicas = fleet.borrow_and_update().replicas.clone();
        let replicas = replicas.into_iter().map(|replica| Replica {
            id: replica.id,
            acked: replica.acked,
            refused: replica.refused,
            store_lost: replica.store_lost,
        });
        sender.send_replace(Fleet {
            replicas: replicas.collect(),
        });
    }
}
