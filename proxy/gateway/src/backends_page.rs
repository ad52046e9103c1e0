//! `/backends`: the state of every deployment that a rule uses.

use std::collections::BTreeMap;

use proxy_admin::clock;
use proxy_admin::pages::backends::{BackendsPage, DeploymentState};

use crate::gateway::Gateway;

impl Gateway {
    /// The state of every deployment that a rule uses; none before the first table.
    #[must_use]
    pub fn backends_page(&self) -> BackendsPage {
        let (shared, now) = (self.shared(), clock::now());
        let live = shared.live();
        let endpoints = live.iter().flat_map(|live| live.endpoints());
        let by_name: BTreeMap<(String, String), DeploymentState> = endpoints
            .map(|at| {
                let state = at.endpoint.state(now, &at.place, &shared.metrics);
                ((state.backend.clone(), state.deployment.clone()), state)
            })
            .collect();
        BackendsPage {
            deployments: by_name.into_values().collect(),
            ..BackendsPage::default()
        }
    }
}
