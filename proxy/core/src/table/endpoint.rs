//! Where requests can go: every deployment of every backend, and what a rule's target may use of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::contents::{Backend, Deployment, Target};
use crate::names::ObjectName;

/// One deployment of one backend. A handle: tables that follow keep it as long as neither changes.
#[derive(Debug)]
pub struct Endpoint {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its deployment.
    pub deployment: Deployment,
}

/// What an endpoint is known by from table to table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName {
    /// The AIBackend.
    pub backend: ObjectName,
    /// The entry of its `deployments`.
    pub deployment: Arc<str>,
}

/// A [`Target`] with its endpoints looked up.
#[derive(Clone, Debug)]
pub struct FlatTarget {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Share within the tier.
    pub weight: u32,
    /// Tier, lower first.
    pub priority: u8,
    /// The declared one, or all of the backend.
    endpoints: Vec<Arc<Endpoint>>,
    declared: bool,
}

/// A backend with its endpoints.
type OfBackend = (Arc<Backend>, Vec<Arc<Endpoint>>);

/// All endpoints, and those of each backend.
#[derive(Debug, Default)]
pub(super) struct EndpointIndex {
    all: Vec<Arc<Endpoint>>,
    by_backend: HashMap<ObjectName, OfBackend, foldhash::fast::RandomState>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> EndpointName {
        EndpointName {
            backend: self.backend.name.clone(),
            deployment: Arc::clone(&self.deployment.name),
        }
    }
}

// === impl FlatTarget ===

impl FlatTarget {
    /// The endpoints that it may use, whatever the model.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter()
    }

    /// The endpoint for `model`: the declared deployment if the rule names one, else the one named
    /// like the model, else the first whose underlying model it is.
    #[must_use]
    pub fn endpoint(&self, model: &str) -> Option<&Arc<Endpoint>> {
        self.place(model)
            .and_then(|place| self.endpoints.get(place))
    }

    /// Where [`FlatTarget::endpoint`] stands in [`FlatTarget::endpoints`].
    #[must_use]
    pub fn place(&self, model: &str) -> Option<usize> {
        if self.declared {
            return (!self.endpoints.is_empty()).then_some(0);
        }
        let first = |is: &dyn Fn(&Deployment) -> bool| {
            self.endpoints.iter().position(|one| is(&one.deployment))
        };
        first(&|deployment| *deployment.name == *model)
            .or_else(|| first(&|deployment| *deployment.model == *model))
    }
}

// === impl EndpointIndex ===

impl EndpointIndex {
    /// Takes the endpoints of `before` for backends that are the same.
    pub(super) fn new(backends: &[Arc<Backend>], before: &Self) -> Self {
        let mut index = Self::default();
        for backend in backends {
            let known = before.by_backend.get(&backend.name);
            let endpoints = match known {
                Some((known, endpoints)) if Arc::ptr_eq(known, backend) => endpoints.clone(),
                Some(_) | None => endpoints_of(backend),
            };
            index.all.extend(endpoints.iter().cloned());
            let entry = (Arc::clone(backend), endpoints);
            index.by_backend.insert(backend.name.clone(), entry);
        }
        index
    }

    pub(super) fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    /// Looks a target up; `None` without its backend.
    pub(super) fn target(&self, target: &Target) -> Option<FlatTarget> {
        let (backend, of_backend) = self.by_backend.get(&target.backend)?;
        let wanted = |endpoint: &&Arc<Endpoint>| {
            let declared = target.deployment.as_ref();
            declared.is_none_or(|name| *name == endpoint.deployment.name)
        };
        Some(FlatTarget {
            backend: Arc::clone(backend),
            weight: target.weight,
            priority: target.priority,
            endpoints: of_backend.iter().filter(wanted).cloned().collect(),
            declared: target.deployment.is_some(),
        })
    }
}

fn endpoints_of(backend: &Arc<Backend>) -> Vec<Arc<Endpoint>> {
    let each = backend.deployments.iter();
    each.map(|deployment| {
        Arc::new(Endpoint {
            backend: Arc::clone(backend),
            deployment: deployment.clone(),
        })
    })
    .collect()
}
