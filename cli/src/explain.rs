//! `tundish explain`: the forecast of a request, by a folder or by a live gateway.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use proxy_admin::clock;
use proxy_admin::pages::explanation::Explanation;
use proxy_admin::pages::question;
use proxy_core::names::Attributes;
use proxy_core::table::Table;
use proxy_core::whatif::{InvalidConsumer, Question, Unused, forecast};

use crate::args::{ExplainArgs, Output};
use crate::columns::{Columns, limit_name, or_dash, span};
use crate::manifests::Folder;
use crate::report;

#[cfg(test)]
mod tests;

/// Prints the rule, the limits, the backends and the verdict; exits with 1 for a refusal.
///
/// # Errors
/// The folder or the gateway does not answer, or the consumer is unknown.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode> {
    let question = Question {
        host: args.host.to_ascii_lowercase(),
        operation: args.operation,
        model: args.model.clone(),
        consumer: args.consumer.clone(),
        attributes: attributes(&args.attributes),
        input_tokens: args.input_tokens,
        max_tokens: args.max_tokens,
    };
    let explanation = match &args.manifests {
        None => {
            let path = format!("/explain?{}", question::query(&question));
            args.admin.page(&path, args.token.token()?.as_ref())?
        }
        Some(manifests) => {
            let mut folder = Folder::new(
                manifests,
                &args.namespace.name,
                args.namespace.host_grants.clone(),
            )
            .with_backend_hosts(&args.namespace.backend_hosts);
            folder.refresh()?;
            let table = Table::new(folder.compile().compiled.contents);
            forecast_unused(&table, &question, args.default_output_tokens)?
        }
    };
    match args.output.format {
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

/// Sorted, as a token has them.
fn attributes(given: &[(String, String)]) -> Attributes {
    let given = given.iter();
    let mut all: Attributes = given
        .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
        .collect();
    all.sort();
    all
}

/// Forecasts by a table whose counters are unused.
fn forecast_unused(
    table: &Table,
    question: &Question,
    default_output_tokens: u64,
) -> Result<Explanation, InvalidConsumer> {
    let counters = Unused {
        served: &proxy_api::served(proxy_api::ROWS),
        default_output_tokens,
    };
    let forecast = forecast(table, question, &counters, clock::now())?;
    Ok(Explanation::from(&forecast))
}

fn lines(question: &Question, explanation: &Explanation) -> Vec<String> {
    let mut lines = vec![format!(
        "request   {} of {} by {} on {}",
        question.operation.as_str(),
        question.model,
        explanation.consumer,
        question.host
    )];
    if let Some(rule) = &explanation.rule {
        lines.push(format!("route     {}, rule {}", rule.route, rule.rule));
        if !explanation.class.is_empty() {
            lines.push(format!("class     {}", explanation.class));
        }
        lines.push(format!(
            "reserves  {} input tokens, {} output tokens{}, {}",
            explanation.input_tokens,
            explanation.output_tokens,
            output_from(&explanation.output_tokens_from),
            cost(explanation.cost_micros)
        ));
        lines.push(String::new());
        lines.extend(limits(explanation));
        lines.push(String::new());
        lines.extend(backends(explanation));
        if !explanation.affinity.is_empty() {
            lines.push(format!("affinity: {}", explanation.affinity));
        }
        lines.extend(tokens(explanation));
        lines.push(String::new());
    }
    let verdict = &explanation.verdict;
    let word = match &verdict.code {
        None => "admitted".to_owned(),
        Some(code) => format!("refused: {code}"),
    };
    lines.push(format!("{word}: {}", verdict.reason));
    lines
}

fn output_from(word: &str) -> String {
    match word {
        // An older gateway does not say; its client's bound needs no explanation.
        "" | "client" => String::new(),
        "expected" => " (expected: the client sets no bound)".to_owned(),
        bound => format!(" (the rule's {bound})"),
    }
}

fn cost(micros: Option<u64>) -> String {
    micros.map_or_else(
        || "unknown cost".to_owned(),
        |micros| format!("{micros} micros"),
    )
}

fn limits(explanation: &Explanation) -> Vec<String> {
    if explanation.limits.is_empty() {
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
    for limit in &explanation.limits {
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

/// The backends that cannot be called for want of a token.
fn tokens(explanation: &Explanation) -> Vec<String> {
    let choices = explanation.backends.iter();
    let without = choices.filter_map(|choice| {
        let why = choice.no_token.as_ref()?;
        Some(format!("{} gets no call: {why}", choice.backend))
    });
    without.collect()
}

fn backends(explanation: &Explanation) -> Vec<String> {
    let mut table = Columns::new(["TIER", "BACKEND", "DEPLOYMENT", "WEIGHT", "SHARE", "MICROS"]);
    for choice in &explanation.backends {
        table.row([
            choice.priority.to_string(),
            choice.backend.clone(),
            choice
                .deployment
                .clone()
                .unwrap_or_else(|| "none for the model".to_owned()),
            choice.weight.to_string(),
            format!("{}%", choice.share_percent),
            match (choice.cost_micros, &choice.deployment) {
                (Some(micros), _) => micros.to_string(),
                (None, Some(_)) => "unknown".to_owned(),
                (None, None) => "-".to_owned(),
            },
        ]);
    }
    table.lines()
}
