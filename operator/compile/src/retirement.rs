//! Deployments that their backend retires: a warning from 90 days before, and the condition `Retiring`.
//!
//! The texts are read again, from the stored condition: they show which warnings were given before.

use std::collections::BTreeSet;

use crds::{AiBackendSpec, ConditionType, Reason};
use proxy_core::names::ObjectName;
use proxy_core::table::{List, Route};

use crate::day::Day;
use crate::diagnostic::{Diagnostic, Judgement, Severity, Verdict};
use crate::object::{Kind, ObjectRef};

/// Most deployments that the condition names; with names of 128 characters they fit into a status.
const LISTED: usize = 16;

/// What to do about it.
const FIX: &str = "deploy its successor, and refer to that in the routes";

/// Most routes that the condition names.
const ROUTES: usize = 8;

/// A deployment that retires soon, or has.
#[derive(Clone, Debug)]
struct Retirement<'a> {
    /// Its place in the spec.
    place: usize,
    deployment: &'a str,
    day: Day,
    days_left: i64,
    reason: Reason,
}

/// Whether a deployment of the backend retires soon, or has.
pub(crate) fn is_soon(spec: &AiBackendSpec, today: Day) -> bool {
    !soon(spec, today).is_empty()
}

/// Adds a warning for each deployment that retires soon to the verdict on the backend, and the condition
/// `Retiring`.
pub(crate) fn judge(
    name: &ObjectName,
    spec: &AiBackendSpec,
    routes: &List<Route>,
    today: Day,
    verdict: &mut Verdict,
) {
    let retirements = soon(spec, today);
    let Some(reason) = retirements.iter().map(|one| one.reason).max() else {
        return;
    };
    let object = ObjectRef::new(Kind::AiBackend, name.clone());
    verdict.conditions.push(Judgement {
        condition: ConditionType::Retiring,
        holds: true,
        reason,
        message: message(&retirements, &users(name, &retirements, routes)),
    });
    let diagnostics = retirements.iter().map(|one| Diagnostic {
        object: object.clone(),
        severity: Severity::Warning,
        condition: ConditionType::Retiring,
        reason: one.reason,
        field: format!("spec.deployments[{}].retires", one.place),
        message: format!("{}; {FIX}", one.text()),
    });
    verdict.diagnostics.extend(diagnostics);
}

/// Whether the message of a condition `Retiring` has this warning: of the same deployment and day, as near
/// or nearer.
#[must_use]
pub fn is_known(warning: &Diagnostic, stored: &str) -> bool {
    let text = warning.message.split("; ").next().unwrap_or_default();
    let Some((subject, _)) = read(text) else {
        return false;
    };
    let mut known = stored.split("; ").filter_map(read);
    known.any(|(one, reason)| one == subject && reason >= warning.reason)
}

/// The deployments that retire soon, the next one first, and then those whose day has come.
fn soon(spec: &AiBackendSpec, today: Day) -> Vec<Retirement<'_>> {
    let deployments = spec.deployments.iter().enumerate();
    let mut soon: Vec<Retirement<'_>> = deployments
        .filter_map(|(place, deployment)| {
            // One that is no day is an error of its own.
            let day = Day::parse(deployment.retires.as_deref()?)?;
            let days_left = today.until(day);
            Some(Retirement {
                place,
                deployment: &deployment.name,
                day,
                days_left,
                reason: level(days_left)?,
            })
        })
        .collect();
    soon.sort_by_key(|one| (one.reason == Reason::Retired, one.day, one.place));
    soon
}

/// How near it is; `None` if that is no matter yet.
const fn level(days_left: i64) -> Option<Reason> {
    match days_left {
        i64::MIN..=0 => Some(Reason::Retired),
        1..=7 => Some(Reason::RetiresWithinWeek),
        8..=30 => Some(Reason::RetiresWithinMonth),
        31..=90 => Some(Reason::RetiresWithinQuarter),
        _ => None,
    }
}

/// The routes that may send requests to one of these deployments.
fn users<'a>(
    backend: &ObjectName,
    retirements: &[Retirement<'_>],
    routes: &'a List<Route>,
) -> BTreeSet<&'a ObjectName> {
    let uses = |route: &Route| {
        let targets = route.rules.iter().flat_map(|rule| &rule.targets);
        let mut targets = targets.filter(|target| target.backend == *backend);
        targets.any(|target| match &target.deployment {
            Some(deployment) => retirements
                .iter()
                .any(|one| *one.deployment == **deployment),
            // The model decides.
            None => true,
        })
    };
    let users = routes.iter().filter(|route| uses(route));
    users.map(|route| &route.name).collect()
}

fn message(retirements: &[Retirement<'_>], users: &BTreeSet<&ObjectName>) -> String {
    let listed = retirements.iter().take(LISTED).map(Retirement::text);
    let mut parts: Vec<String> = listed.collect();
    let more = retirements.len().saturating_sub(LISTED);
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    if !users.is_empty() {
        let names: Vec<String> = users.iter().take(ROUTES).map(ToString::to_string).collect();
        let more = users.len().saturating_sub(ROUTES);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        parts.push(format!("used by {}{more}", names.join(", ")));
    }
    parts.join("; ")
}

/// What a text of [`Retirement::text`] is of, and how near it said that it is.
fn read(text: &str) -> Option<((&str, &str), Reason)> {
    if let Some((deployment, day)) = text.split_once(" retired on ") {
        return Some(((deployment, day), Reason::Retired));
    }
    let (deployment, rest) = text.split_once(" retires on ")?;
    let (day, left) = rest.split_once(", in ")?;
    let (days, _unit) = left.split_once(' ')?;
    Some(((deployment, day), level(days.parse().ok()?)?))
}

// === impl Retirement ===

impl Retirement<'_> {
    /// Without the days since: each would be another write of the status, for ever.
    fn text(&self) -> String {
        let Self {
            deployment,
            day,
            days_left,
            ..
        } = self;
        match days_left {
            i64::MIN..=0 => format!("{deployment} retired on {day}"),
            1 => format!("{deployment} retires on {day}, in 1 day"),
            more => format!("{deployment} retires on {day}, in {more} days"),
        }
    }
}

#[cfg(test)]
mod tests;
