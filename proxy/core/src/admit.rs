//! Admission: the caller of a request, the rule that serves it, and the limits that apply.
//!
//! Reads no counter. [`crate::quota::reserve`] takes quota; the gateway's ledger calls it with the
//! limits of the [`Permit`].

use std::sync::Arc;

use http::HeaderMap;

use crate::auth::{Caller, CallerKind, Lack, Token};
use crate::names::{Class, Code, ModelPattern, Operation};
use crate::route::Facts;
use crate::table::{Authentication, FlatLimit, FlatRule, Open, QuotaFacts, Route, Rule, Table};

mod credential;
mod denial;
#[cfg(test)]
mod tests;

pub use credential::{Authenticated, Identity, Judged, Vouched, authenticate, may_call};
pub use denial::Denial;

use credential::{missing, unknown};

/// What a request asks for, without its caller.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The host: lower case, without a port.
    pub host: &'a str,
    /// The operation.
    pub operation: Operation,
    /// The model that the client named.
    pub model: Option<&'a str>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
}

/// A name of a model that a caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// What the caller writes.
    pub name: Arc<str>,
    /// The underlying model, of the first deployment that may serve it.
    pub model: Arc<str>,
}

/// An admitted request: its rule, ready to be charged and sent.
#[derive(Clone, Copy, Debug)]
pub struct Permit<'t> {
    /// Index of the rule in [`Table::rules`].
    pub index: usize,
    /// The rule.
    pub flat: &'t FlatRule,
    /// The AIRoute.
    pub route: &'t Route,
    /// The rule as declared.
    pub rule: &'t Rule,
}

fn forbidden(caller: &Caller, to: &str) -> Denial {
    let message = format!("consumer {} is not admitted to this {to}", caller.full_name);
    Denial::new(Code::Forbidden, message)
}

fn lacking(caller: &Caller, accepted: &Authentication, token: &Token) -> Denial {
    let lack = accepted.lack(token).unwrap_or(Lack::Issuer);
    let message = format!("consumer {} is not admitted: {lack}", caller.full_name);
    Denial::new(Code::Forbidden, message)
}

/// Finds the rule that serves the request and judges whether it admits the caller.
///
/// Takes the namespaces of which a route of the host admits the caller, and matches among all routes of
/// these, also the rejected ones and those that do not admit it: a route never serves what a more specific
/// one of its namespace stands for. A consumer belongs to its namespace: while a route of that admits it,
/// no other namespace's does.
///
/// # Errors
/// `route_not_found`, `model_not_found`, `missing_credential`, `invalid_credential`, `forbidden`,
/// `route_rejected`, `no_backend`.
pub fn admit<'t>(table: &'t Table, caller: &Caller, ask: &Ask<'_>) -> Result<Permit<'t>, Denial> {
    usable(table, caller, ask, find(table, caller, ask)?)
}

/// The rule of a request that names no model: the first, in order of precedence, that serves the caller for
/// some model and `reaches` what the request is about. `None` if there is none.
///
/// # Errors
/// Those of [`admit`] besides `model_not_found`.
pub fn admit_for_some_model<'t>(
    table: &'t Table,
    caller: &Caller,
    ask: &Ask<'_>,
    reaches: impl Fn(usize) -> bool,
) -> Result<Option<Permit<'t>>, Denial> {
    let mut facts = facts(caller, ask);
    let tenancy = table.tenancy();
    let admits = |rule: usize| {
        let route = permit(table, rule).map(|permit| permit.route);
        route.is_some_and(|route| admits(route, caller)) && reaches(rule)
    };
    let found = match &caller.kind {
        CallerKind::Known(secret)
            if let Some(own) = tenancy.namespace(&caller.namespace)
                && own.may_admit(ask.host, secret) =>
        {
            own.find_for_some_model(&facts, admits)
        }
        CallerKind::Token(_) => {
            let own = tenancy.namespace(&caller.namespace);
            own.and_then(|own| own.find_for_some_model(&facts, admits))
        }
        kind @ (CallerKind::Known(_) | CallerKind::Unknown | CallerKind::Anonymous) => {
            // Attributes are labels of the other namespace's making.
            facts.attributes = const { &Vec::new() };
            let namespaces = tenancy.open(ask.host, open_to(kind));
            let ranks = namespaces.filter_map(|one| one.find_for_some_model(&facts, admits));
            ranks.min()
        }
    };
    let found = found.and_then(|rank| permit(table, rank.rule));
    let found = found.map(|found| usable(table, caller, ask, in_order(found)?));
    found.transpose()
}

/// The permit, unless it cannot be enforced or has no backend.
fn usable<'t>(
    table: &'t Table,
    caller: &Caller,
    ask: &Ask<'_>,
    permit: Permit<'t>,
) -> Result<Permit<'t>, Denial> {
    let caller = permit.counted(table, caller);
    let mut unsupported = table.unsupported().iter();
    let unsupported = unsupported.find(|quota| {
        quota.scope.covers(&permit.route.name, &permit.rule.name)
            && quota.applies(&permit.facts(caller, ask.model))
    });
    if let Some(quota) = unsupported {
        let why = quota.unsupported.as_deref().unwrap_or_default();
        return Err(Denial::new(
            Code::RouteRejected,
            format!("the quota {} cannot be enforced: {why}", quota.name),
        ));
    }
    if permit.flat.targets.is_empty() {
        return Err(Denial::new(
            Code::NoBackend,
            format!(
                "rule {} of route {} has no usable backend",
                permit.rule.name, permit.route.name
            ),
        ));
    }
    Ok(permit)
}

fn find<'t>(table: &'t Table, caller: &Caller, ask: &Ask<'_>) -> Result<Permit<'t>, Denial> {
    let mut facts = facts(caller, ask);
    let tenancy = table.tenancy();
    match &caller.kind {
        CallerKind::Known(secret) => {
            if let Some(own) = tenancy.namespace(&caller.namespace) {
                let found = own.find(&facts).and_then(|rank| permit(table, rank.rule));
                // The route that admits it also admits it to the namespace: the usual case.
                if let Some(found) = found
                    && found.route.authentication.admits_key(secret)
                {
                    return in_order(found);
                }
                if own.may_admit(ask.host, secret) {
                    let found = found.ok_or_else(|| not_found(table, ask))?;
                    return Err(not_admitted_by(found.route, caller));
                }
            }
            // Attributes are labels of the other namespace's making.
            facts.attributes = const { &Vec::new() };
        }
        // It has a namespace since a route of that admits it on the host.
        CallerKind::Token(_) => {
            let own = tenancy.namespace(&caller.namespace);
            let found = own.and_then(|own| own.find(&facts));
            let found = found.and_then(|rank| permit(table, rank.rule));
            return judged(found.ok_or_else(|| not_found(table, ask))?, caller);
        }
        CallerKind::Unknown | CallerKind::Anonymous => {}
    }
    let mut namespaces = tenancy.open(ask.host, open_to(&caller.kind)).peekable();
    if namespaces.peek().is_none() {
        return Err(not_admitted(table, caller, ask));
    }
    let best = namespaces.filter_map(|one| one.find(&facts)).min();
    let best = best.and_then(|rank| permit(table, rank.rule));
    judged(best.ok_or_else(|| not_found(table, ask))?, caller)
}

fn facts<'a>(caller: &'a Caller, ask: &Ask<'a>) -> Facts<'a> {
    Facts {
        host: ask.host,
        operation: ask.operation,
        model: ask.model,
        headers: ask.headers,
        consumer_namespace: &caller.namespace,
        consumer: &caller.name,
        attributes: &caller.attributes,
    }
}

/// What must be open to callers that no route of their own namespace admits.
fn open_to(kind: &CallerKind) -> fn(&Open) -> bool {
    match kind {
        CallerKind::Unknown => |open| open.pass_through || open.anonymous,
        CallerKind::Known(_) | CallerKind::Token(_) | CallerKind::Anonymous => {
            |open| open.anonymous
        }
    }
}

/// The models that `caller` may name on `host`, sorted: names from rules and deployments for which one
/// of `operations` would find a deployment.
#[must_use]
pub fn models(
    table: &Table,
    caller: &Caller,
    host: &str,
    headers: &HeaderMap,
    operations: &[Operation],
) -> Vec<Reachable> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for backend in &table.contents().backends {
        for deployment in &backend.deployments {
            names.extend([Arc::clone(&deployment.name), Arc::clone(&deployment.model)]);
        }
    }
    let rules = table
        .contents()
        .routes
        .iter()
        .flat_map(|route| &route.rules);
    for pattern in rules.flat_map(|rule| &rule.matches).flat_map(|m| &m.models) {
        if let ModelPattern::Exact(name) = pattern {
            names.push(Arc::clone(name));
        }
    }
    names.sort();
    names.dedup();
    let reached = |name: &Arc<str>| {
        operations.iter().find_map(|&operation| {
            let ask = Ask {
                host,
                operation,
                model: Some(name),
                headers,
            };
            let permit = admit(table, caller, &ask).ok()?;
            let first = permit.flat.first_endpoint(name)?;
            Some(Arc::clone(&first.deployment.model))
        })
    };
    let found = names.into_iter();
    let found = found.filter_map(|name| Some((reached(&name)?, name)));
    found
        .map(|(model, name)| Reachable { name, model })
        .collect()
}

fn permit(table: &Table, index: usize) -> Option<Permit<'_>> {
    let flat = table.rules().get(index)?;
    Some(Permit {
        index,
        flat,
        route: &flat.route,
        rule: &flat.rule,
    })
}

/// The permit, if its route admits the caller and is in order.
fn judged<'t>(permit: Permit<'t>, caller: &Caller) -> Result<Permit<'t>, Denial> {
    if admits(permit.route, caller) {
        in_order(permit)
    } else {
        Err(not_admitted_by(permit.route, caller))
    }
}

fn admits(route: &Route, caller: &Caller) -> bool {
    let accepted = &route.authentication;
    match &caller.kind {
        CallerKind::Known(secret) => accepted.admits_key(secret),
        CallerKind::Token(token) => accepted.lack(token).is_none(),
        CallerKind::Unknown => accepted.anonymous || accepted.pass_through,
        CallerKind::Anonymous => accepted.anonymous,
    }
}

/// The permit of a caller that its route admits.
fn in_order(permit: Permit<'_>) -> Result<Permit<'_>, Denial> {
    match &permit.route.rejected {
        Some(why) => Err(rejected(permit.route, why)),
        None => Ok(permit),
    }
}

fn rejected(route: &Route, why: &str) -> Denial {
    let message = format!("the route {} is in error: {why}", route.name);
    Denial::new(Code::RouteRejected, message)
}

/// Why a route does not admit a caller. One that cannot be read may admit each of its namespace.
fn not_admitted_by(route: &Route, caller: &Caller) -> Denial {
    let accepted = &route.authentication;
    let may_admit = accepted.unreadable && *caller.namespace == *route.name.namespace();
    match (&caller.kind, &route.rejected) {
        (_, Some(why)) if may_admit => rejected(route, why),
        (CallerKind::Known(_), _) if accepted.pass_through => Denial::new(
            Code::Forbidden,
            "the route sends credentials to its backend, and keys of the gateway never go there; \
             use the backend's own credential",
        ),
        (CallerKind::Known(_), _) => forbidden(caller, "route"),
        (CallerKind::Token(token), _) => lacking(caller, accepted, token),
        (CallerKind::Unknown, _) => unknown(),
        (CallerKind::Anonymous, _) => missing(),
    }
}

/// No namespace of the host admits the caller.
fn not_admitted(table: &Table, caller: &Caller, ask: &Ask<'_>) -> Denial {
    let mut routes = table.contents().routes.iter();
    if !routes.any(|route| route.serves(ask.host)) {
        return not_found(table, ask);
    }
    match &caller.kind {
        CallerKind::Known(_) | CallerKind::Token(_) => forbidden(caller, "host"),
        CallerKind::Unknown => unknown(),
        CallerKind::Anonymous => missing(),
    }
}

fn not_found(table: &Table, ask: &Ask<'_>) -> Denial {
    if !table
        .contents()
        .routes
        .iter()
        .any(|route| route.serves(ask.host))
    {
        return Denial::new(
            Code::RouteNotFound,
            format!("no route serves host {:?}", ask.host),
        );
    }
    let operation = ask.operation.as_str();
    let message = match ask.model {
        Some(model) => format!("no rule serves model {model:?} for {operation}"),
        None => format!("no rule serves {operation}"),
    };
    Denial::new(Code::ModelNotFound, message)
}

impl<'t> Permit<'t> {
    /// The caller as the route counts it: where no credential is needed, one that is no key makes no
    /// consumer of its own.
    #[must_use]
    pub fn caller<'a>(&self, table: &'a Table, caller: &'a Arc<Caller>) -> &'a Arc<Caller> {
        if self.ignores(caller) {
            table.anonymous()
        } else {
            caller
        }
    }

    /// What yields first under pressure: as the rule says, or less, by the attribute `class` of the caller.
    #[must_use]
    pub fn class(&self, caller: &Caller) -> Class {
        self.rule.class.lowered_by(&caller.attributes)
    }

    fn counted<'a>(&self, table: &'a Table, caller: &'a Caller) -> &'a Caller {
        if self.ignores(caller) {
            table.anonymous()
        } else {
            caller
        }
    }

    fn ignores(&self, caller: &Caller) -> bool {
        caller.kind == CallerKind::Unknown && !self.route.authentication.pass_through
    }

    /// The facts that decide which limits apply to a request of `caller` for `model`, and which counters
    /// it charges.
    #[must_use]
    pub fn facts<'a>(&self, caller: &'a Caller, model: Option<&'a str>) -> QuotaFacts<'a>
    where
        't: 'a,
    {
        let first = model.and_then(|model| self.flat.first_endpoint(model));
        QuotaFacts {
            caller,
            route: self.route,
            model,
            deployed_model: first.map(|endpoint| &*endpoint.deployment.model),
        }
    }

    /// The limits that apply, in the order of the table: by quota, then as declared.
    pub fn limits<'a>(
        &self,
        facts: QuotaFacts<'a>,
    ) -> impl Iterator<Item = &'t Arc<FlatLimit>> + use<'t, 'a> {
        let limits = self.flat.limits.iter();
        limits.filter(move |limit| limit.applies(&facts))
    }

    /// The underlying model of a name that clients use: that of the first deployment that may serve it,
    /// else the name itself.
    #[must_use]
    pub fn deployed_model<'a>(&self, model: &'a str) -> &'a str
    where
        't: 'a,
    {
        let first = self.flat.first_endpoint(model);
        first.map_or(model, |endpoint| &*endpoint.deployment.model)
    }
}
