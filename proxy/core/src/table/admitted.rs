//! Which keys the routes of a namespace admit, by host.
//!
//! Requests that no route admits at once ask for it, so each answer is a lookup, however many routes there
//! are.

use std::collections::HashSet;
use std::sync::Arc;

use super::contents::{Authentication, Route};
use crate::names::ObjectName;
use crate::route::ByHost;

#[cfg(test)]
mod tests;

/// The keys that the routes of one namespace admit.
#[derive(Debug)]
pub(super) struct Admitted {
    routes: Vec<Arc<Route>>,
    by_host: ByHost<Keys>,
}

/// The keys that are good on a host.
#[derive(Debug, Default)]
struct Keys {
    /// Every key: a route admits all callers, or cannot be read and may.
    every: bool,
    secrets: HashSet<ObjectName, foldhash::fast::RandomState>,
    /// The route that was added last. Routes often select the same Secrets.
    last: Option<Arc<Route>>,
}

impl Admitted {
    /// Indexes the routes of a namespace.
    pub(super) fn new(routes: Vec<Arc<Route>>) -> Self {
        let mut by_host: ByHost<Keys> = ByHost::default();
        for route in &routes {
            by_host.change(&route.hostnames, |keys| keys.add(route));
        }
        Self { routes, by_host }
    }

    /// Whether it was made of these very routes.
    pub(super) fn is_of(&self, routes: &[Arc<Route>]) -> bool {
        let same = |(one, other): (&Arc<Route>, &Arc<Route>)| Arc::ptr_eq(one, other);
        self.routes.len() == routes.len() && self.routes.iter().zip(routes).all(same)
    }

    /// Whether a route that serves `host` admits the key of `secret`, or cannot be read and may.
    pub(super) fn has(&self, host: &str, secret: &ObjectName) -> bool {
        let mut all = self.by_host.of(host);
        all.any(|(_, keys)| keys.every || keys.secrets.contains(secret))
    }
}

impl Keys {
    fn add(&mut self, route: &Arc<Route>) {
        let Authentication {
            keys,
            issuers: _,
            anonymous,
            pass_through,
            unreadable,
        } = &route.authentication;
        self.every |= *anonymous || *unreadable;
        let last = self.last.as_ref().map(|last| &last.authentication);
        let is_same =
            last.is_some_and(|last| last.pass_through == *pass_through && last.keys == *keys);
        if !*pass_through && !is_same {
            self.secrets.extend(keys.iter().cloned());
        }
        self.last = Some(Arc::clone(route));
    }
}
