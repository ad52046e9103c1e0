//! AIQuotas. One in error never vanishes, since then more would pass than declared: a part of its
//! scope that can't be parsed widens it, and a limit that can't be measured admits nothing.

use crds::{AiQuota, AiQuotaSpec, ConditionType, LimitUnit, QuotaMode, Reason, SplitBy, StoreLoss};
use proxy_core::names::{ConsumerMatch, ObjectName};
use proxy_core::quota::{Limit, Mode, OnStoreLoss, Per, Period, TimeZone, Unit, WarnAt, Window};
use proxy_core::table::{Quota, Scope};

use crate::bounds::{is_label, is_model_pattern};
use crate::diagnostic::{Findings, Verdict};
use crate::index::{Index, Stored};
use crate::mixed::MixedRules;
use crate::object::{Kind, ObjectRef};
use crate::reads::Reads;
use crate::route::{consumers, models};
use crate::unmatched::Unmatched;
use crate::unpriced::Prices;

mod overrides;
mod scope;

use self::overrides::overrides;
use self::scope::scope;

const CONDITIONS: [ConditionType; 1] = [ConditionType::Accepted];

/// The name of the limit of a quota without a valid one.
const NOTHING: &str = "invalid";

/// The time zone database's name for an unknown zone, which would pass for UTC.
const UNKNOWN_ZONE: &str = "Etc/Unknown";

/// What the requests that a quota covers can have.
pub(crate) struct Reach<'a> {
    pub(crate) index: &'a Index,
    pub(crate) own_namespace: &'a str,
    pub(crate) prices: Prices<'a>,
    pub(crate) mixed: &'a MixedRules,
    pub(crate) unmatched: Unmatched<'a>,
    pub(crate) reads: &'a Reads,
}

/// Compiles one AIQuota.
pub(crate) fn compile(
    name: &ObjectName,
    stored: &Stored<AiQuota>,
    reach: &Reach<'_>,
) -> (Quota, Verdict) {
    let mut findings = Findings::new(ObjectRef::new(Kind::AiQuota, name.clone()));
    let whole = whole(name, reach.own_namespace);
    let (compiled, generation, partial) = match stored {
        Stored::Decoded(quota) => {
            let facts = (reach.index, reach.reads);
            let (mut compiled, partial) = validate(name, quota, whole, facts, &mut findings);
            require_prices(&mut compiled, quota, &reach.prices, &mut findings);
            compiled.overrides = overrides(&compiled, &quota.spec, &mut findings);
            close(&mut compiled.limits);
            for message in reach.mixed.told_apart(&compiled, reach.reads) {
                let is_split = compiled.models.is_empty();
                let field = if is_split {
                    "spec.per"
                } else {
                    "spec.match.models"
                };
                findings.note(field, message);
            }
            reach.unmatched.judge(&compiled, &quota.spec, &mut findings);
            let generation = quota.metadata.generation.unwrap_or(0);
            (compiled, generation, partial)
        }
        Stored::Undecodable {
            generation,
            message,
            ..
        } => {
            findings.invalid(
                "",
                format!(
                    "the object can't be read, so every request that it may cover is refused \
                     until it is mended or deleted: {message}"
                ),
            );
            (nothing(name, whole), *generation, false)
        }
    };
    (compiled, findings.verdict(generation, &CONDITIONS, partial))
}

/// The largest scope that a quota of this namespace can have.
fn whole(name: &ObjectName, own_namespace: &str) -> Scope {
    if name.namespace() == own_namespace {
        Scope::Gateway
    } else {
        Scope::Namespace(name.namespace().into())
    }
}

fn nothing(name: &ObjectName, scope: Scope) -> Quota {
    Quota {
        name: name.clone(),
        scope,
        models: Vec::new(),
        consumers: ConsumerMatch::default(),
        per: Vec::new(),
        attribute: "".into(),
        mode: Mode::Enforce,
        on_store_loss: OnStoreLoss::Deny,
        warn_at: WarnAt::default(),
        limits: vec![no_requests()],
        overrides: Vec::new(),
        unsupported: None,
    }
}

fn no_requests() -> Limit {
    Limit {
        name: NOTHING.into(),
        unit: Unit::Requests,
        amount: 0,
        window: Window::Minute,
    }
}

fn validate(
    name: &ObjectName,
    quota: &AiQuota,
    whole: Scope,
    facts: (&Index, &Reads),
    findings: &mut Findings,
) -> (Quota, bool) {
    let spec = &quota.spec;
    let (scope, partial) = scope(name, spec, whole, facts, findings);
    // If one model can't be parsed, every model counts: the others alone would let it through.
    let all_parsed = spec.match_.models.iter().all(|m| is_model_pattern(m));
    let models = models(&spec.match_.models, "spec.match", findings);
    let mut per: Vec<Per> = spec.per.iter().copied().map(split).collect();
    per.sort();
    per.dedup();
    if per.contains(&Per::Namespace) && !matches!(scope, Scope::Gateway | Scope::Namespaces(_)) {
        let message = "splits nothing by Namespace: the quota covers the routes of one namespace; \
                       remove Namespace";
        findings.note("spec.per", message);
    }
    let by_attribute = per.contains(&Per::Attribute);
    if by_attribute && spec.attribute.is_empty() {
        let message = "is required when per has Attribute; name the attribute, for example team";
        findings.invalid("spec.attribute", message);
    } else if !by_attribute && !spec.attribute.is_empty() {
        let message = "is only for a per with Attribute; add Attribute to per, or remove attribute";
        findings.invalid("spec.attribute", message);
    }
    let compiled = Quota {
        name: name.clone(),
        scope,
        models: models.filter(|_| all_parsed).unwrap_or_default(),
        consumers: consumers(&spec.match_.consumers, name.namespace()),
        per,
        attribute: spec.attribute.as_str().into(),
        mode: match spec.mode {
            QuotaMode::Enforce => Mode::Enforce,
            QuotaMode::Shadow => Mode::Shadow,
        },
        on_store_loss: match spec.on_store_loss {
            StoreLoss::Share => OnStoreLoss::Share,
            StoreLoss::Deny => OnStoreLoss::Deny,
            StoreLoss::Allow => OnStoreLoss::Allow,
        },
        warn_at: warn_at(&spec.warn_at, findings),
        limits: limits(spec, findings),
        overrides: Vec::new(),
        unsupported: None,
    };
    (compiled, partial)
}

fn warn_at(declared: &[i32], findings: &mut Findings) -> WarnAt {
    let mut levels = Vec::with_capacity(declared.len());
    for (i, percent) in declared.iter().enumerate() {
        match u8::try_from(*percent) {
            Ok(level) if levels.contains(&level) => {
                let message = format!("has {level} twice; remove the duplicate");
                findings.invalid(format!("spec.warnAt[{i}]"), message);
            }
            Ok(level) if (1..100).contains(&level) => levels.push(level),
            Ok(_) | Err(_) => {
                let message = "must be 1 to 99 per cent, and gives no warning until then";
                findings.invalid(format!("spec.warnAt[{i}]"), message);
            }
        }
    }
    WarnAt::new(levels)
}

/// A limit on cost counts nothing where a price is unknown, and would admit whatever goes there.
fn require_prices(
    compiled: &mut Quota,
    declared: &AiQuota,
    prices: &Prices<'_>,
    findings: &mut Findings,
) {
    let mut limits = declared.spec.limits.iter();
    let Some(place) = limits.position(|limit| limit.unit == LimitUnit::CostMicros) else {
        return;
    };
    let missing = prices.missing(compiled);
    if missing.is_empty() {
        return;
    }
    for message in missing {
        let (condition, reason) = (ConditionType::Accepted, Reason::PriceMissing);
        findings.error(
            condition,
            reason,
            format!("spec.limits[{place}].unit"),
            message,
        );
    }
    let limits = compiled.limits.iter_mut();
    let on_cost = limits.filter(|limit| limit.unit == Unit::CostMicros);
    on_cost.for_each(|limit| limit.amount = 0);
}

/// A limit on cost of 0 would admit what costs nothing, or what has an unknown price. To admit nothing
/// it counts requests.
fn close(limits: &mut [Limit]) {
    let limits = limits.iter_mut().filter(|limit| limit.amount == 0);
    let on_cost = limits.filter(|limit| limit.unit == Unit::CostMicros);
    on_cost.for_each(|limit| limit.unit = Unit::Requests);
}

const fn split(declared: SplitBy) -> Per {
    match declared {
        SplitBy::Namespace => Per::Namespace,
        SplitBy::Consumer => Per::Consumer,
        SplitBy::Model => Per::Model,
        SplitBy::Route => Per::Route,
        SplitBy::Attribute => Per::Attribute,
    }
}

// === limits ===

fn limits(spec: &AiQuotaSpec, findings: &mut Findings) -> Vec<Limit> {
    if spec.limits.is_empty() {
        findings.invalid("spec.limits", "is empty; add at least one limit");
        return vec![no_requests()];
    }
    let mut compiled: Vec<Limit> = Vec::with_capacity(spec.limits.len());
    for (i, declared) in spec.limits.iter().enumerate() {
        let field = format!("spec.limits[{i}]");
        let limit = limit(declared, &field, findings);
        if let Some(first) = compiled.iter_mut().find(|other| other.name == limit.name) {
            // Two limits can't share a counter, and neither may be dropped.
            first.amount = 0;
            let message = format!(
                "{:?} is there twice, so it admits nothing; rename one",
                declared.name
            );
            findings.invalid(format!("{field}.name"), message);
            continue;
        }
        compiled.push(limit);
    }
    compiled
}

/// One limit; with the amount 0 if it is invalid.
fn limit(declared: &crds::Limit, field: &str, findings: &mut Findings) -> Limit {
    let mut amount = match u64::try_from(declared.limit) {
        Ok(amount) if amount > 0 => amount,
        Ok(_) | Err(_) => {
            let message = "must be at least 1; to refuse requests, take the caller's key away";
            findings.invalid(format!("{field}.limit"), message);
            0
        }
    };
    if !is_label(&declared.name) {
        let message = "must be 1 to 63 lower-case letters, digits and '-'";
        findings.invalid(format!("{field}.name"), message);
    }
    let window = match window(declared, field, findings) {
        Ok(window) => window,
        Err(nearest) => {
            amount = 0;
            nearest
        }
    };
    Limit {
        name: declared.name.as_str().into(),
        unit: match declared.unit {
            LimitUnit::Requests => Unit::Requests,
            LimitUnit::InputTokens => Unit::InputTokens,
            LimitUnit::OutputTokens => Unit::OutputTokens,
            LimitUnit::Tokens => Unit::Tokens,
            LimitUnit::CostMicros => Unit::CostMicros,
            LimitUnit::Concurrency => Unit::Concurrency,
        },
        amount,
        window,
    }
}

/// The window; as an error the nearest valid one.
fn window(declared: &crds::Limit, field: &str, findings: &mut Findings) -> Result<Window, Window> {
    let concurrency = declared.unit == LimitUnit::Concurrency;
    let Some(window) = declared.window else {
        if concurrency {
            return Ok(Window::Held);
        }
        let message = "is required for every unit but Concurrency, so the limit admits nothing; \
                       set one, for example Minute";
        findings.invalid(format!("{field}.window"), message);
        return Err(Window::Minute);
    };
    if concurrency {
        let message = "unit Concurrency counts requests in flight and has no window, so the limit \
                       admits nothing; remove window";
        findings.invalid(format!("{field}.window"), message);
        return Err(Window::Held);
    }
    let period = match window {
        crds::Window::Second => return Ok(rolling(Window::Second, declared, field, findings)),
        crds::Window::Minute => return Ok(rolling(Window::Minute, declared, field, findings)),
        crds::Window::Hour => Period::Hour,
        crds::Window::Day => Period::Day,
        crds::Window::Week => Period::Week,
        crds::Window::Month => Period::Month,
    };
    let zone = TimeZone::named(&declared.time_zone);
    match zone.filter(|_| !declared.time_zone.eq_ignore_ascii_case(UNKNOWN_ZONE)) {
        Some(zone) => Ok(Window::Calendar(period, zone)),
        None => {
            let message = format!(
                "{:?} is no IANA time zone, so the limit admits nothing; write one like \
                 Europe/Vienna, or remove it for UTC",
                declared.time_zone
            );
            findings.invalid(format!("{field}.timeZone"), message);
            Err(Window::Calendar(period, TimeZone::UTC))
        }
    }
}

/// A rolling window is the same everywhere, so a time zone does no harm.
fn rolling(window: Window, declared: &crds::Limit, field: &str, findings: &mut Findings) -> Window {
    if !declared.time_zone.is_empty() {
        let message = "is only for the calendar windows Hour, Day, Week and Month, and has no \
                       effect here; remove it";
        let (condition, reason) = (ConditionType::Accepted, Reason::Accepted);
        findings.warning(condition, reason, format!("{field}.timeZone"), message);
    }
    window
}

#[cfg(test)]
mod tests;
