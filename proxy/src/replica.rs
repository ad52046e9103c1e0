//! One proxy replica: a gateway that follows the operators and reports its counters to them.

use std::time::Duration;

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use proxy_admin::pages::backends::DeploymentState;
use proxy_admin::task;
use proxy_admin::telemetry::Log;
use proxy_gateway::Gateway;
use proxy_sync::{Config, Counted, Denials, DeploymentReport, NoToken, Origin, Update};
use tokio::sync::oneshot;
use tracing::info;

use crate::app::{App, Ending};
use crate::args::ProxyArgs;
use crate::runtime;

/// A drain begins with a last report; this is the time for one that is still on its way.
const LAST_REPORT: Duration = Duration::from_secs(3);

/// Serves until a signal asks it to stop.
///
/// # Errors
/// A setting is wrong, or a port cannot be opened.
pub fn run(args: &ProxyArgs, log: &Log) -> Result<()> {
    runtime::block_on(serve(args, log))
}

async fn serve(args: &ProxyArgs, log: &Log) -> Result<()> {
    let mut registry = Registry::with_prefix("tundish");
    let metrics = proxy_sync::Metrics::register(&mut registry);
    let app = App::start(
        args.gateway.config(&*args.replica, log),
        &args.observability,
        registry,
    )
    .await?;
    let (sink, carrying, counting) = (app.sink(), app.gateway(), app.gateway());
    let publish = move |update: Update| match update {
        Update::Table {
            table,
            revision,
            digest,
            origin,
        } => {
            info!(revision, %digest, "table in force");
            sink.publish(table);
            sink.came_from(origin);
        }
        Update::Confirmed => sink.came_from(Origin::Operator),
        Update::Stale(stale) => sink.set_stale(stale),
        Update::Replicas(replicas) => sink.share_among(replicas),
        Update::Carried(carried) => carrying.carry(carried),
    };
    let counted = move || counted(&counting);
    let config = config(args);
    let shutdown = app.shutdown.clone();
    info!(address = %app.address(), replica = %config.replica, "serving");
    let (refused, refusal) = oneshot::channel();
    let following = task::spawn("operators", async move {
        let followed = proxy_sync::follow(config, metrics, publish, counted, shutdown);
        if let Err(error) = followed.await {
            refused.send(error).ok();
        }
    });
    tokio::select! {
        ended = app.run(args.gateway.drain_delay()) => {
            if ended? == Ending::Drained {
                tokio::time::timeout(LAST_REPORT, following).await.ok();
            }
            Ok(())
        }
        Ok(error) = refusal => Err(error).context("the operators cannot be followed"),
    }
}

/// What this replica reports to the operators.
fn counted(gateway: &Gateway) -> Counted {
    let limits = gateway.usage_page().limits.into_iter();
    Counted {
        store: gateway.store_state(),
        counters: gateway.counters(),
        limits: limits
            .filter(|limit| limit.denials > 0 || limit.shadow_denials > 0)
            .map(|limit| Denials {
                limit: limit.limit,
                denials: limit.denials,
                shadow_denials: limit.shadow_denials,
            })
            .collect(),
        tokenless: gateway
            .tokenless()
            .into_iter()
            .map(|(backend, reason)| NoToken { backend, reason })
            .collect(),
        deployments: gateway
            .backends_page()
            .deployments
            .into_iter()
            .map(deployment)
            .collect(),
    }
}

fn deployment(state: DeploymentState) -> DeploymentReport {
    let DeploymentState {
        backend,
        deployment,
        state,
        reason,
        cause,
        out_ms,
        retry_in_ms,
        in_flight,
        failures_in_a_row,
        first_byte_ms,
        utilisation_percent,
        cached_input_percent,
        // Of the page of an operator.
        proxies: _,
    } = state;
    DeploymentReport {
        backend,
        deployment,
        state,
        reason,
        cause,
        out_ms,
        retry_in_ms,
        in_flight,
        failures_in_a_row,
        first_byte_ms,
        utilisation_percent,
        cached_input_percent,
    }
}

fn config(args: &ProxyArgs) -> Config {
    Config {
        operators: args.operators.clone(),
        ca_file: args.operator_ca.clone(),
        token_file: args.token_file.clone(),
        replica: args.replica.clone(),
        last_good: args.last_good.clone(),
        snapshot: args.snapshot_dir.clone(),
        keep_credentials: args.last_good_in_memory,
        allow_plaintext: args.operator_plaintext,
        max_table_age: args.max_table_age.map(Duration::from_secs),
    }
}
