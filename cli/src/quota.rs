//! `tundish quota`: the use of every limit, by subject.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use proxy_admin::pages::usage::{LimitUsage, SubjectUsage, UsagePage};

use crate::args::{Output, QuotaArgs};
use crate::columns::{Columns, limit_name, or_dash, span};
use crate::report;

#[cfg(test)]
mod tests;

/// Prints the use of every limit: of all replicas for the admin port of an operator, of one replica
/// for that of a proxy.
///
/// # Errors
/// The admin port does not answer.
pub fn quota(args: &QuotaArgs) -> Result<ExitCode> {
    let page: UsagePage = args.admin.page("/quota", args.token.token()?.as_ref())?;
    match args.output.format {
        Output::Json => report::line(&serde_json::to_string_pretty(&page)?),
        Output::Text => {
            for line in lines(&page) {
                report::line(&line);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(page: &UsagePage) -> Vec<String> {
    if page.limits.is_empty() {
        return vec!["no limits".to_owned()];
    }
    let mut table = Columns::new([
        "LIMIT",
        "UNIT",
        "WINDOW",
        "SUBJECT",
        "USED",
        "RESERVED",
        "ALLOWED",
        "REMAINING",
        "RESETS IN",
        "DENIED",
    ]);
    let unused = SubjectUsage::default();
    let mut rows: Vec<(&LimitUsage, &SubjectUsage)> = Vec::new();
    for limit in &page.limits {
        rows.extend(limit.subjects.iter().map(|subject| (limit, subject)));
        if limit.subjects.is_empty() {
            rows.push((limit, &unused));
        }
    }
    // The largest share first; compared crosswise, since a limit may be 0.
    rows.sort_by(|(a, x), (b, y)| {
        let part = |used: u64, other: u64| u128::from(used) * u128::from(other);
        part(y.used, a.amount_for(x)).cmp(&part(x.used, b.amount_for(y)))
    });
    for (limit, subject) in rows {
        table.row([
            limit_name(&limit.limit, &limit.mode),
            limit.unit.clone(),
            limit.window.clone(),
            or_dash(&subject.subject),
            subject.used.to_string(),
            subject.reserved.to_string(),
            limit.amount_for(subject).to_string(),
            limit
                .amount_for(subject)
                .saturating_sub(subject.used)
                .to_string(),
            subject
                .reset_seconds
                .map_or_else(|| "-".to_owned(), |s| span(Duration::from_secs(s))),
            limit.denials.max(limit.shadow_denials).to_string(),
        ]);
    }
    let mut lines = table.lines();
    for limit in page.limits.iter().filter(|limit| limit.unlisted() > 0) {
        let (name, listed, unlisted) = (&limit.limit, limit.subjects.len(), limit.unlisted());
        lines.push(format!(
            "{name}: the {listed} with the largest share are shown, {unlisted} more are not"
        ));
    }
    match page.reporting {
        Some(reporting) => lines.push(format!(
            "the sum over all replicas; {reporting} of {} have reported to the operator",
            page.replicas
        )),
        None if page.replicas > 1 => lines.push(format!(
            "this proxy is one of {} replicas and only knows its own share; query every proxy, or \
             the operator",
            page.replicas
        )),
        None => {}
    }
    lines
}
