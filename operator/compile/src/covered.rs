//! The routes that a quota covers.

use proxy_core::names::ObjectName;
use proxy_core::table::{List, Route, Scope};

use crate::reads::{Reads, Subject};

/// Finds routes by the scope of a quota.
#[derive(Clone, Copy)]
pub(crate) struct Routes<'a> {
    /// Sorted by name.
    all: &'a List<Route>,
    reads: &'a Reads,
}

impl<'a> Routes<'a> {
    pub(crate) const fn new(all: &'a List<Route>, reads: &'a Reads) -> Self {
        Self { all, reads }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.reads.all(Subject::Route);
        self.all.len()
    }

    /// The routes of a scope.
    pub(crate) fn of(&self, scope: &Scope) -> Vec<&'a Route> {
        match scope {
            Scope::Gateway => {
                self.reads.all(Subject::Route);
                self.all.iter().map(|route| &**route).collect()
            }
            Scope::Namespace(namespace) => self.of_namespace(namespace).collect(),
            Scope::Namespaces(all) => {
                let each = all.iter();
                each.flat_map(|namespace| self.of_namespace(namespace))
                    .collect()
            }
            Scope::Targets(targets) => {
                let mut found: Vec<_> = targets
                    .iter()
                    .filter_map(|(name, _)| self.find(name))
                    .collect();
                // Several targets may be rules of one route.
                found.dedup_by_key(|route| &route.name);
                found
            }
        }
    }

    pub(crate) fn find(&self, name: &ObjectName) -> Option<&'a Route> {
        self.reads.one(Subject::Route, name);
        self.all.find(name).map(|route| &**route)
    }

    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &'a Route> {
        self.reads.namespace(Subject::Route, namespace);
        let start = self
            .all
            .partition_point(|route| route.name.namespace() < namespace);
        let rest = self.all.iter().skip(start).map(|route| &**route);
        rest.take_while(move |route| route.name.namespace() == namespace)
    }
}
