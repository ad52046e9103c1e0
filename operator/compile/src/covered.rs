//! The routes that a quota covers.

use proxy_core::names::ObjectName;
use proxy_core::table::{Route, Scope};

/// Finds routes by the scope of a quota.
#[derive(Clone, Copy)]
pub(crate) struct Routes<'a>(&'a [Route]);

impl<'a> Routes<'a> {
    /// `sorted` by name.
    pub(crate) const fn new(sorted: &'a [Route]) -> Self {
        Self(sorted)
    }

    /// The routes of a scope.
    pub(crate) fn of(&self, scope: &Scope) -> Vec<&'a Route> {
        match scope {
            Scope::Gateway => self.0.iter().collect(),
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
        let place = self.0.binary_search_by(|route| route.name.cmp(name));
        place.ok().and_then(|place| self.0.get(place))
    }

    fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &'a Route> {
        let start = self
            .0
            .partition_point(|route| route.name.namespace() < namespace);
        let rest = self.0.iter().skip(start);
        rest.take_while(move |route| route.name.namespace() == namespace)
    }
}
