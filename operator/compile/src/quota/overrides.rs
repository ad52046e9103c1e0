//! Overrides of a quota's amounts. One in error never admits more than the limit that it names.

use std::sync::Arc;

use crds::AiQuotaSpec;
use proxy_core::quota::Per;
use proxy_core::table::{Override, Quota, Scope};

use crate::diagnostic::Findings;
use crate::near::did_you_mean;
use crate::route::consumers;

/// The overrides of `quota`, whose limits are final: one that admits nothing is not raised either.
pub(super) fn overrides(
    quota: &Quota,
    spec: &AiQuotaSpec,
    findings: &mut Findings,
) -> Vec<Override> {
    let mut compiled: Vec<Override> = Vec::with_capacity(spec.overrides.len());
    for (i, declared) in spec.overrides.iter().enumerate() {
        let field = format!("spec.overrides[{i}]");
        let is_sound = is_sound(quota, declared, &field, findings);
        let consumers = consumers(&declared.consumers, quota.name.namespace());
        if compiled.iter().any(|before| before.consumers == consumers) {
            let message = "never takes effect: an override before it has the same consumers; remove one \
                           of the two";
            findings.note(&field, message);
        }
        let amounts = amounts(quota, declared, (&field, is_sound), findings);
        if consumers.names.is_empty() && is_of_tenants(quota) && raises(quota, &amounts) {
            let message = "raises amounts by a label, which every namespace can give its own Secrets; name \
                           the consumers as namespace/name, unless you trust all of them";
            findings.note(format!("{field}.consumers"), message);
        }
        compiled.push(Override { consumers, amounts });
    }
    compiled
}

/// Whether the quota counts requests of consumers whose Secrets others label.
fn is_of_tenants(quota: &Quota) -> bool {
    match &quota.scope {
        Scope::Gateway | Scope::Namespaces(_) => true,
        Scope::Namespace(namespace) => **namespace != *quota.name.namespace(),
        Scope::Targets(_) => false,
    }
}

fn raises(quota: &Quota, amounts: &[(Arc<str>, u64)]) -> bool {
    quota.limits.iter().any(|limit| {
        let mut amounts = amounts.iter();
        amounts.any(|(name, amount)| *name == limit.name && *amount > limit.amount)
    })
}

/// Whether each counter of the quota belongs to callers that the override does not tell apart.
fn is_sound(
    quota: &Quota,
    declared: &crds::Override,
    field: &str,
    findings: &mut Findings,
) -> bool {
    let (names, attributes) = (&declared.consumers.names, &declared.consumers.attributes);
    if names.is_empty() && attributes.is_empty() {
        let message = "needs names or attributes, so it raises no amount until then; for every \
                       consumer, change limits instead";
        findings.invalid(format!("{field}.consumers"), message);
        return false;
    }
    let by_attribute = quota.per.contains(&Per::Attribute)
        && names.is_empty()
        && attributes.len() == 1
        && attributes.contains_key(&*quota.attribute);
    if !quota.per.contains(&Per::Consumer) && !by_attribute {
        let message = "needs counters that belong to its consumers, so it raises no amount until then; \
                       add Consumer to per, or match nothing but the attribute of a per with Attribute";
        findings.invalid(field, message);
        return false;
    }
    true
}

fn amounts(
    quota: &Quota,
    declared: &crds::Override,
    (field, is_sound): (&str, bool),
    findings: &mut Findings,
) -> Vec<(Arc<str>, u64)> {
    let mut amounts: Vec<(Arc<str>, u64)> = Vec::with_capacity(declared.limits.len());
    for (i, one) in declared.limits.iter().enumerate() {
        let field = format!("{field}.limits[{i}]");
        let mut own = quota.limits.iter();
        let Some(own) = own.find(|own| *own.name == *one.name) else {
            let hint = did_you_mean(&one.name, quota.limits.iter().map(|own| &*own.name));
            let message = format!(
                "the quota has no limit {:?}{hint}; correct the name, or add the limit",
                one.name
            );
            findings.invalid(format!("{field}.name"), message);
            continue;
        };
        let mut amount = u64::try_from(one.limit).unwrap_or_else(|_| {
            let message = "must be at least 0, which refuses every request";
            findings.invalid(format!("{field}.limit"), message);
            0
        });
        if !is_sound || own.amount == 0 {
            amount = amount.min(own.amount);
        }
        if let Some((_, before)) = amounts.iter_mut().find(|(name, _)| *name == own.name) {
            let message = format!("limit {:?} stands here twice; remove one", one.name);
            findings.invalid(format!("{field}.name"), message);
            *before = amount.min(*before);
        } else {
            amounts.push((Arc::clone(&own.name), amount));
        }
    }
    amounts
}
