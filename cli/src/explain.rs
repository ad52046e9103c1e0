//! `tundish explain`: what would become of a request, by a folder or by a live gateway.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use proxy_core::table::Table;
use proxy_gateway::explain::{Explanation, Question, unused};

use crate::args::{ExplainArgs, Output};
use crate::columns::{Columns, limit_name, or_dash, span};
use crate::manifests::Folder;
use crate::report;

#[cfg(test)]
mod tests;

/// Prints the rule, the limits, the backends and the verdict; fails if it is a refusal.
///
/// # Errors
/// The folder or the gateway cannot be asked, or the consumer is not known.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode> {
    let question = Question {
        host: args.host.to_ascii_lowercase(),
        operation: args.operation,
        model: args.model.clone(),
        consumer: args.consumer.clone(),
        input_tokens: args.input_tokens,
        max_tokens: args.max_tokens,
    };
    let explanation = match (&args.admin, &args.manifests) {
        (Some(admin), _) => admin.page(&format!("/explain?{}", question.query()))?,
        (None, manifests) => {
            let manifests = manifests
                .as_ref()
                .context("--manifests or --admin is needed")?;
            let mut folder = Folder::new(manifests, &args.namespace);
            folder.refresh()?;
            let table = Table::new(folder.compile().compiled.contents);
            unused(&table, &question, args.default_output_tokens).map_err(|why| anyhow!(why))?
        }
    };
    match args.output {
        Output::Json => report::line(&serde_json::to_string_pretty(&explanation)?),
        Output::Text => {
            for line in lines(&question, &explanation) {
                report::line(&line);
            }
        }
    }
    Ok(if explanation.verdict.admitted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn lines(question: &Question, told: &Explanation) -> Vec<String> {
    let mut lines = vec![format!(
        "request   {} of {} by {} on {}",
        question.operation.as_str(),
        question.model,
        told.consumer,
        question.host
    )];
    if let Some(rule) = &told.rule {
        lines.push(format!("route     {}, rule {}", rule.route, rule.rule));
        lines.push(format!(
            "reserves  {} input tokens, {} output tokens",
            told.input_tokens, told.output_tokens
        ));
        lines.push(String::new());
        lines.extend(limits(told));
        lines.push(String::new());
        lines.extend(backends(told));
        lines.push(String::new());
    }
    let verdict = &told.verdict;
    let word = match &verdict.code {
        None => "admitted".to_owned(),
        Some(code) => format!("refused: {code}"),
    };
    lines.push(format!("{word}: {}", verdict.reason));
    lines
}

fn limits(told: &Explanation) -> Vec<String> {
    if told.limits.is_empty() {
        return vec!["no limit applies".to_owned()];
    }
    let mut table = Columns::new([
        "LIMIT",
        "UNIT",
        "WINDOW",
        "SUBJECT",
        "ASKS",
        "REMAINING",
        "ALLOWED",
        "RESERVED",
        "FITS",
    ]);
    for limit in &told.limits {
        let fits = match (limit.fits, limit.fits_in_seconds) {
            (true, _) => "yes".to_owned(),
            (false, None) => "never".to_owned(),
            (false, Some(wait)) => format!("within {}", span(Duration::from_secs(wait))),
        };
        table.row([
            limit_name(&limit.limit, &limit.mode),
            limit.unit.clone(),
            limit.window.clone(),
            or_dash(&limit.subject),
            limit.asks.to_string(),
            limit.remaining.to_string(),
            limit.amount.to_string(),
            limit.reserved.to_string(),
            fits,
        ]);
    }
    table.lines()
}

fn backends(told: &Explanation) -> Vec<String> {
    let mut table = Columns::new(["TIER", "BACKEND", "DEPLOYMENT", "WEIGHT", "SHARE"]);
    for choice in &told.backends {
        table.row([
            choice.priority.to_string(),
            choice.backend.clone(),
            choice
                .deployment
                .clone()
                .unwrap_or_else(|| "none for the model".to_owned()),
            choice.weight.to_string(),
            format!("{}%", choice.share_percent),
        ]);
    }
    table.lines()
}
