//! `tundish backends`: every deployment that a rule uses, and whether it takes requests.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use proxy_admin::pages::backends::{BackendsPage, DeploymentState};

use crate::args::{BackendsArgs, Output};
use crate::columns::{Columns, or_dash, span};
use crate::report;

#[cfg(test)]
mod tests;

/// Prints the state of every deployment that a rule uses, as one proxy sees it.
///
/// # Errors
/// The admin port does not answer.
pub fn backends(args: &BackendsArgs) -> Result<ExitCode> {
    let page: BackendsPage = args.admin.page("/backends", args.token.token()?.as_ref())?;
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

fn lines(mut page: BackendsPage) -> Vec<String> {
    if page.deployments.is_empty() {
        return vec!["no deployments".to_owned()];
    }
    let mut table = Columns::new([
        "BACKEND",
        "DEPLOYMENT",
        "STATE",
        "REASON",
        "FOR",
        "RETRY IN",
        "IN FLIGHT",
        "FAILURES",
        "FIRST BYTE",
        "CAUSE",
    ]);
    page.deployments.sort_by_key(|one| one.state != "Out");
    for one in page.deployments {
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
        } = one;
        table.row([
            backend,
            deployment,
            state,
            or_dash(&reason),
            time(out_ms),
            time(retry_in_ms),
            in_flight.to_string(),
            failures_in_a_row.to_string(),
            first_byte_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms}ms")),
            or_dash(&cause),
        ]);
    }
    table.lines()
}

fn time(ms: Option<u64>) -> String {
    // What is left is rounded up, so that 0 means now.
    let whole = |ms: u64| span(Duration::from_secs(ms.div_ceil(1_000)));
    ms.map_or_else(|| "-".to_owned(), whole)
}
