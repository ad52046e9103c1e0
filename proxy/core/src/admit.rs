//! Admission: the caller of a request, the rule that serves it, and the limits that apply.
//!
//! Reads no counter. [`crate::quota::reserve`] takes quota; the gateway's ledger calls it with the
//! limits of the [`Permit`].

use std::sync::Arc;

use http::HeaderMap;

use crate::auth::{Caller, CallerKind, Key, KeyDigest};
use crate::names::{Code, ModelPattern, Moment, Operation};
use crate::route::Facts;
use crate::table::{Authentication, Deployment, FlatLimit, FlatRule, Route, Rule, Table};

#[cfg(test)]
mod tests;

/// A refused request: the reason, and the message for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason word.
    pub code: Code,
    /// Says what is wrong, and never reveals what exists elsewhere.
    pub message: String,
}

impl Denial {
    /// Refuses for `code` with `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

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

/// What is known of a caller before its request is read.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// It has this key, valid or not.
    Key(&'a Key),
    /// It has a credential that is no key of ours.
    Unknown,
    /// It has no credential.
    Anonymous,
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

/// Identifies the caller. Needs no body, so that strangers cost little.
///
/// # Errors
/// `missing_credential`, `invalid_credential` if no route of `host` could admit the caller;
/// `expired_credential`.
pub fn authenticate(
    table: &Table,
    host: &str,
    credential: Option<&str>,
    now: Moment,
) -> Result<Arc<Caller>, Denial> {
    let Some(credential) = credential else {
        may_call(table, host, Identity::Anonymous, now)?;
        return Ok(Arc::new(Caller::anonymous()));
    };
    let digest = KeyDigest::of(credential);
    if let Some((key, caller)) = table.ring().find(&digest) {
        may_call(table, host, Identity::Key(key), now)?;
        return Ok(Arc::clone(caller));
    }
    may_call(table, host, Identity::Unknown, now)?;
    Ok(Arc::new(Caller::unknown(&digest)))
}

/// Whether a caller of this identity may call `host` at all, whatever it asks for.
///
/// # Errors
/// Those of [`authenticate`].
pub fn may_call(
    table: &Table,
    host: &str,
    identity: Identity<'_>,
    now: Moment,
) -> Result<(), Denial> {
    let admits = |accepts: fn(&Authentication) -> bool| {
        let mut routes = table.contents().routes.iter();
        table.tolerant() && routes.any(|route| accepts(&route.authentication) && route.serves(host))
    };
    match identity {
        Identity::Key(key) if key.is_expired(now) => Err(Denial::new(
            Code::ExpiredCredential,
            "the API key has expired",
        )),
        Identity::Key(_) => Ok(()),
        Identity::Unknown if admits(|one| one.pass_through || one.anonymous) => Ok(()),
        Identity::Unknown => Err(unknown()),
        Identity::Anonymous if admits(|one| one.anonymous) => Ok(()),
        Identity::Anonymous => Err(missing()),
    }
}

fn missing() -> Denial {
    Denial::new(Code::MissingCredential, "no API key was sent")
}

fn unknown() -> Denial {
    Denial::new(Code::InvalidCredential, "the API key is not known")
}

/// Finds the rule that serves the request and judges whether it admits the caller.
///
/// # Errors
/// `route_not_found`, `model_not_found`, `missing_credential`, `invalid_credential`, `forbidden`,
/// `route_rejected`, `no_backend`.
pub fn admit<'t>(table: &'t Table, caller: &Caller, ask: &Ask<'_>) -> Result<Permit<'t>, Denial> {
    let facts = Facts {
        host: ask.host,
        operation: ask.operation,
        model: ask.model,
        headers: ask.headers,
        consumer: &caller.name,
        attributes: &caller.attributes,
    };
    let found = table
        .router()
        .find(&facts)
        .and_then(|index| permit(table, index));
    let Some(permit) = found else {
        return Err(not_found(table, ask));
    };
    judge(permit.route, caller)?;
    if let Some(why) = &permit.route.rejected {
        return Err(Denial::new(
            Code::RouteRejected,
            format!("the route {} is in error: {why}", permit.route.name),
        ));
    }
    let unsupported = table.unsupported().iter().find(|quota| {
        quota.scope.covers(&permit.route.name, &permit.rule.name)
            && quota.applies(caller, ask.model)
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

/// The models that `caller` may name on `host`, sorted: names from rules and deployments for which one
/// of `operations` would find a deployment.
#[must_use]
pub fn models(
    table: &Table,
    caller: &Caller,
    host: &str,
    headers: &HeaderMap,
    operations: &[Operation],
) -> Vec<Arc<str>> {
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
    names.retain(|name| {
        operations.iter().any(|&operation| {
            let ask = Ask {
                host,
                operation,
                model: Some(name),
                headers,
            };
            admit(table, caller, &ask).is_ok_and(|permit| permit.finds_deployment(name))
        })
    });
    names
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

fn judge(route: &Route, caller: &Caller) -> Result<(), Denial> {
    let accepted = &route.authentication;
    match &caller.kind {
        _ if accepted.anonymous => Ok(()),
        CallerKind::Known(_) if accepted.pass_through => Ok(()),
        CallerKind::Known(secret) if accepted.keys.binary_search(secret).is_ok() => Ok(()),
        CallerKind::Known(_) => Err(Denial::new(
            Code::Forbidden,
            format!("consumer {} is not admitted to this route", caller.name),
        )),
        CallerKind::Unknown if accepted.pass_through => Ok(()),
        CallerKind::Unknown => Err(unknown()),
        CallerKind::Anonymous => Err(missing()),
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
    /// The limits that apply, in the order of the table: by quota, then as declared.
    pub fn limits<'a>(
        &self,
        caller: &'a Caller,
        model: Option<&'a str>,
    ) -> impl Iterator<Item = &'t Arc<FlatLimit>> + use<'t, 'a> {
        let limits = self.flat.limits.iter();
        limits.filter(move |limit| limit.applies(caller, model))
    }

    /// The underlying model of a name that clients use: that of the first deployment that may serve it,
    /// else the name itself.
    #[must_use]
    pub fn deployed_model<'a>(&self, model: &'a str) -> &'a str
    where
        't: 'a,
    {
        let mut deployments = self.deployments(model);
        deployments
            .next()
            .map_or(model, |deployment| &*deployment.model)
    }

    fn finds_deployment(&self, model: &str) -> bool {
        self.deployments(model).next().is_some()
    }

    fn deployments(&self, model: &str) -> impl Iterator<Item = &'t Deployment> {
        let targets = self.flat.targets.iter();
        targets.filter_map(move |target| Some(&target.endpoint(model)?.deployment))
    }
}
