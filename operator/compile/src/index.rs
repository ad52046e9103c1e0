//! Every object by kind and name. A change cannot fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crds::{AiBackend, AiQuota, AiRoute};
use proxy_core::names::ObjectName;

use crate::grant::Grant;
use crate::object::{Kind, Object, ObjectRef};
use crate::secret::StoredSecret;

/// Every object. The order of changes leaves no trace.
///
/// `Debug` shows counts only: Secrets hold credentials.
#[derive(Default)]
pub struct Index {
    pub(crate) backends: BTreeMap<ObjectName, Stored<AiBackend>>,
    pub(crate) routes: BTreeMap<ObjectName, Stored<AiRoute>>,
    pub(crate) quotas: BTreeMap<ObjectName, Stored<AiQuota>>,
    pub(crate) secrets: BTreeMap<ObjectName, Arc<StoredSecret>>,
    pub(crate) grants: BTreeMap<ObjectName, Grant>,
}

/// An object, or the problem that makes it undecodable.
#[derive(Debug)]
pub(crate) enum Stored<T> {
    Decoded(T),
    Undecodable {
        generation: i64,
        message: String,
        /// What can be read of an AIRoute.
        remains: Option<Box<AiRoute>>,
    },
}

impl<T> Stored<T> {
    pub(crate) const fn decoded(&self) -> Option<&T> {
        match self {
            Self::Decoded(object) => Some(object),
            Self::Undecodable { .. } => None,
        }
    }
}

// === impl Index ===

impl Index {
    /// Adds `object`, or replaces the one of the same kind and name.
    pub fn apply(&mut self, object: Object) {
        let ObjectRef { kind, name } = object.object_ref();
        match object {
            Object::Backend(backend) => {
                self.backends.insert(name, Stored::Decoded(backend));
            }
            Object::Route(route) => {
                self.routes.insert(name, Stored::Decoded(route));
            }
            Object::Quota(quota) => {
                self.quotas.insert(name, Stored::Decoded(quota));
            }
            Object::Secret(secret) => {
                let stored = StoredSecret::new(&name, secret);
                self.secrets.insert(name, Arc::new(stored));
            }
            Object::Grant(grant) => {
                self.grants.insert(name, grant);
            }
            Object::Undecodable {
                generation,
                message,
                remains,
                ..
            } => self.apply_undecodable(kind, name, (generation, message, remains)),
        }
    }

    /// An undecodable Secret or grant holds and permits nothing: it counts as absent.
    fn apply_undecodable(
        &mut self,
        kind: Kind,
        name: ObjectName,
        (generation, message, remains): (i64, String, Option<Box<AiRoute>>),
    ) {
        match kind {
            Kind::AiBackend => {
                self.backends.insert(
                    name,
                    Stored::Undecodable {
                        generation,
                        message,
                        remains,
                    },
                );
            }
            Kind::AiRoute => {
                self.routes.insert(
                    name,
                    Stored::Undecodable {
                        generation,
                        message,
                        remains,
                    },
                );
            }
            Kind::AiQuota => {
                self.quotas.insert(
                    name,
                    Stored::Undecodable {
                        generation,
                        message,
                        remains,
                    },
                );
            }
            Kind::Secret => {
                self.secrets.remove(&name);
            }
            Kind::ReferenceGrant => {
                self.grants.remove(&name);
            }
        }
    }

    /// Removes an object, if it is there.
    pub fn delete(&mut self, object: &ObjectRef) {
        match object.kind {
            Kind::AiBackend => {
                self.backends.remove(&object.name);
            }
            Kind::AiRoute => {
                self.routes.remove(&object.name);
            }
            Kind::AiQuota => {
                self.quotas.remove(&object.name);
            }
            Kind::Secret => {
                self.secrets.remove(&object.name);
            }
            Kind::ReferenceGrant => {
                self.grants.remove(&object.name);
            }
        }
    }

    /// Replaces all objects of `kind` by those among `objects` that are of it.
    pub fn reset(&mut self, kind: Kind, objects: Vec<Object>) {
        match kind {
            Kind::AiBackend => self.backends.clear(),
            Kind::AiRoute => self.routes.clear(),
            Kind::AiQuota => self.quotas.clear(),
            Kind::Secret => self.secrets.clear(),
            Kind::ReferenceGrant => self.grants.clear(),
        }
        for object in objects {
            if object.object_ref().kind == kind {
                self.apply(object);
            }
        }
    }

    /// The names of the AIRoutes of a namespace, sorted.
    pub(crate) fn routes_of<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a ObjectName> {
        let first = ObjectName::new(namespace, "");
        let rest = self.routes.range(first..).map(|(route, _)| route);
        rest.take_while(move |route| route.namespace() == namespace)
    }

    /// Every object.
    pub(crate) fn objects(&self) -> impl Iterator<Item = ObjectRef> {
        let of = |kind: Kind| move |name: &ObjectName| ObjectRef::new(kind, name.clone());
        let backends = self.backends.keys().map(of(Kind::AiBackend));
        let routes = self.routes.keys().map(of(Kind::AiRoute));
        let quotas = self.quotas.keys().map(of(Kind::AiQuota));
        let secrets = self.secrets.keys().map(of(Kind::Secret));
        let grants = self.grants.keys().map(of(Kind::ReferenceGrant));
        let all = backends.chain(routes).chain(quotas);
        all.chain(secrets).chain(grants)
    }

    /// The decodable AIBackends, by name.
    pub fn backends(&self) -> impl Iterator<Item = &AiBackend> {
        self.backends.values().filter_map(Stored::decoded)
    }

    /// The decodable AIRoutes, by name.
    pub fn routes(&self) -> impl Iterator<Item = &AiRoute> {
        self.routes.values().filter_map(Stored::decoded)
    }

    /// The decodable AIQuotas, by name.
    pub fn quotas(&self) -> impl Iterator<Item = &AiQuota> {
        self.quotas.values().filter_map(Stored::decoded)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("backends", &self.backends.len())
            .field("routes", &self.routes.len())
            .field("quotas", &self.quotas.len())
            .field("secrets", &self.secrets.len())
            .field("grants", &self.grants.len())
            .finish()
    }
}
