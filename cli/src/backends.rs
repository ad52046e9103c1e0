//! `tundish backends`: every deployment that a rule uses, and whether it takes requests.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use proxy_admin::pages::backends::{BackendsPage, DeploymentState};
use proxy_core::table::{EndpointName, FlatTarget, Table};

use crate::args::{BackendsArgs, Output};
use crate::columns::{Columns, or_dash, span};
use crate::manifests::Folder;
use crate::report;

#[cfg(test)]
mod tests;

const HEAD: [&str; 12] = [
    "BACKEND",
    "DEPLOYMENT",
    "STATE",
    "REASON",
    "FOR",
    "RETRY IN",
    "IN FLIGHT",
    "FAILURES",
    "FIRST BYTE",
    "UTILISATION",
    "CACHED",
    "CAUSE",
];

/// Prints the state of every deployment that a rule uses, as one proxy sees it or as an operator knows it from
/// all of them; of a folder, what rules use.
///
/// # Errors
/// The folder cannot be read, or the admin port does not answer.
pub fn backends(args: &BackendsArgs) -> Result<ExitCode> {
    let page = match &args.manifests {
        None => args.admin.page("/backends", args.token.token()?.as_ref())?,
        Some(manifests) => {
            let mut folder = Folder::new(
                manifests,
                &args.namespace.name,
                args.namespace.host_grants.clone(),
            )
            .with_backend_hosts(&args.namespace.backend_hosts);
            folder.refresh()?;
            declared(&Table::new(folder.compile().compiled.contents))
        }
    };
    match args.output.format {
        Output::Json => report::line(&serde_json::to_string_pretty(&page)?),
        Output::Text => {
            for line in lines(page) {
                report::line(&line);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the rules of a table use.
fn declared(table: &Table) -> BackendsPage {
    let targets = table.rules().iter().flat_map(|rule| &rule.targets);
    let endpoints = targets.flat_map(FlatTarget::endpoints);
    let names: BTreeSet<EndpointName> = endpoints.map(|endpoint| endpoint.name()).collect();
    let deployments = names.into_iter().map(|name| DeploymentState {
        backend: name.backend.to_string(),
        deployment: name.deployment.as_ref().to_owned(),
        state: "-".to_owned(),
        ..DeploymentState::default()
    });
    BackendsPage {
        deployments: deployments.collect(),
        ..BackendsPage::default()
    }
}

fn lines(mut page: BackendsPage) -> Vec<String> {
    let mut lines = if page.deployments.is_empty() {
        vec!["no deployments".to_owned()]
    } else {
        page.deployments
            .sort_by_key(|one| (one.state != "Out", one.reason.is_empty()));
        match page.replicas {
            None => of_proxy(page.deployments),
            Some(_) => of_operator(page.deployments),
        }
    };
    if let (Some(replicas), Some(reporting)) = (page.replicas, page.reporting) {
        lines.push(format!(
            "of all proxies; {reporting} of {replicas} have reported to the operator"
        ));
    }
    lines
}

fn of_proxy(deployments: Vec<DeploymentState>) -> Vec<String> {
    let mut table = Columns::new(HEAD);
    for one in deployments {
        table.row(cells(one));
    }
    table.lines()
}

/// The same with a column more.
fn of_operator(deployments: Vec<DeploymentState>) -> Vec<String> {
    let wider = |cells: [String; HEAD.len()], proxies: String| {
        let [backend, deployment, state, reason, out, retry, rest @ ..] = cells;
        let [in_flight, failures, first_byte, used, cached, cause] = rest;
        [
            backend, deployment, state, proxies, reason, out, retry, in_flight, failures,
            first_byte, used, cached, cause,
        ]
    };
    let mut table = Columns::new(wider(HEAD.map(str::to_owned), "PROXIES".to_owned()));
    for one in deployments {
        let proxies = one.proxies.as_ref();
        let proxies = proxies.map_or_else(|| "-".to_owned(), |it| format!("{}/{}", it.have, it.of));
        table.row(wider(cells(one), proxies));
    }
    table.lines()
}

fn cells(state: DeploymentState) -> [String; HEAD.len()] {
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
        proxies: _,
    } = state;
    [
        backend,
        deployment,
        state,
        or_dash(&reason),
        time(out_ms),
        time(retry_in_ms),
        in_flight.to_string(),
        failures_in_a_row.to_string(),
        first_byte_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms}ms")),
        percent(utilisation_percent),
        percent(cached_input_percent),
        or_dash(&cause),
    ]
}

fn percent(part: Option<u32>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{part}%"))
}

fn time(ms: Option<u64>) -> String {
    // What is left is rounded up, so that 0 means now.
    let whole = |ms: u64| span(Duration::from_secs(ms.div_ceil(1_000)));
    ms.map_or_else(|| "-".to_owned(), whole)
}
