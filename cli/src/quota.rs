//! `tundish quota`: who has used how much of which limit.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use proxy_gateway::standing::{LimitStanding, Standing, SubjectStanding};
use serde::{Deserialize, Serialize};

use crate::args::{Output, QuotaArgs};
use crate::columns::{Columns, limit_name, or_dash, span};
use crate::report;

#[cfg(test)]
mod tests;

/// The page `/quota` of a proxy or of an operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Page {
    #[serde(flatten)]
    standing: Standing,
    /// How many replicas have told the operator what they used; a proxy does not say this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reporting: Option<u64>,
}

/// Prints the limits of a gateway and who has used them: of all replicas if an operator is asked, of
/// one if a proxy is.
///
/// # Errors
/// The admin port does not answer.
pub fn quota(args: &QuotaArgs) -> Result<ExitCode> {
    let page: Page = args.admin.page("/quota")?;
    match args.output {
        Output::Json => report::line(&serde_json::to_string_pretty(&page)?),
        Output::Text => {
            for line in lines(&page) {
                report::line(&line);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(page: &Page) -> Vec<String> {
    let standing = &page.standing;
    if standing.limits.is_empty() {
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
    let nobody = SubjectStanding {
        subject: String::new(),
        used: 0,
        reserved: 0,
        remaining: 0,
        reset_seconds: None,
    };
    let mut rows: Vec<(&LimitStanding, &SubjectStanding)> = Vec::new();
    for limit in &standing.limits {
        rows.extend(limit.subjects.iter().map(|subject| (limit, subject)));
        if limit.subjects.is_empty() {
            rows.push((limit, &nobody));
        }
    }
    // The largest share first; compared crosswise, since a limit may be 0.
    rows.sort_by(|(a, x), (b, y)| {
        let part = |used: u64, other: u64| u128::from(used) * u128::from(other);
        part(y.used, a.amount).cmp(&part(x.used, b.amount))
    });
    for (limit, subject) in rows {
        table.row([
            limit_name(&limit.limit, &limit.mode),
            limit.unit.clone(),
            limit.window.clone(),
            or_dash(&subject.subject),
            subject.used.to_string(),
            subject.reserved.to_string(),
            limit.amount.to_string(),
            limit.amount.saturating_sub(subject.used).to_string(),
            subject
                .reset_seconds
                .map_or_else(|| "-".to_owned(), |s| span(Duration::from_secs(s))),
            limit.denials.max(limit.shadow_denials).to_string(),
        ]);
    }
    let mut lines = table.lines();
    for limit in standing.limits.iter().filter(|limit| limit.cut() > 0) {
        let (cut, shown) = (limit.cut(), limit.subjects.len());
        lines.push(format!(
            "{}: the {shown} most used are shown, {cut} more are not",
            limit.limit
        ));
    }
    match page.reporting {
        Some(reporting) => lines.push(format!(
            "over all replicas, as {reporting} of {} have told the operator",
            standing.replicas
        )),
        None if standing.replicas > 1 => lines.push(format!(
            "this is one of {} replicas: it allows and tells its own part only; ask each, or an operator",
            standing.replicas
        )),
        None => {}
    }
    lines
}
