//! One proxy replica: a gateway that follows the operators.

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use proxy_admin::{task, telemetry};
use proxy_sync::{Config, Update};
use tokio::sync::oneshot;
use tracing::info;

use crate::app::App;
use crate::args::ProxyArgs;

/// Serves until it is told to stop.
///
/// # Errors
/// A setting is wrong, or a port cannot be opened.
pub fn run(args: &ProxyArgs) -> Result<()> {
    telemetry::start(&args.observability.log_level, args.observability.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(args))
}

async fn serve(args: &ProxyArgs) -> Result<()> {
    let mut registry = Registry::with_prefix("tundish");
    let metrics = proxy_sync::Metrics::register(&mut registry);
    let app = App::start(args.gateway.config(), args.observability.admin, registry).await?;
    let sink = app.sink();
    let publish = move |update: Update| match update {
        Update::Table {
            table,
            revision,
            digest,
        } => {
            info!(revision, %digest, "table in force");
            sink.publish(table);
        }
        Update::Replicas(replicas) => sink.share_among(replicas),
    };
    let config = config(args);
    let shutdown = app.shutdown.clone();
    info!(address = %app.address(), replica = %config.replica, "serving");
    let (refused, refusal) = oneshot::channel();
    task::spawn("operators", async move {
        if let Err(error) = proxy_sync::follow(config, metrics, publish, shutdown).await {
            refused.send(error).ok();
        }
    });
    tokio::select! {
        ended = app.run() => ended,
        Ok(error) = refusal => Err(error).context("the operators cannot be followed"),
    }
}

fn config(args: &ProxyArgs) -> Config {
    Config {
        operators: args.operators.clone(),
        ca_file: args.operator_ca.clone(),
        token_file: args.token_file.clone(),
        replica: args.replica.clone(),
        last_good: args.last_good.clone(),
        keep_credentials: args.last_good_in_memory,
        allow_plaintext: args.operator_plaintext,
    }
}
