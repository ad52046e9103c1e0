//! Writes the status of the GatewayClass and of Gateways while this replica leads. Only objects of the
//! installation's class are touched.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use operator_publish::Fleet;
use proxy_admin::clock;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use self::wanted::{Facts, WantedStatus};
use crate::claims::Claims;
use crate::config::FIELD_MANAGER;
use crate::gateway_watch::StoredGateways;
use crate::lease::keeper::Leadership;
use crate::resource::gateway_resource;
use crate::status::{Inputs, PublishedTable};

mod wanted;

/// Pause before a pass, so that most changes cost one write.
const COALESCE: Duration = Duration::from_millis(150);

/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Longest wait for one write.
const PATIENCE: Duration = Duration::from_secs(15);

/// Replicas find a new operator within this time. Until then a Gateway that was programmed stays so.
const SETTLE: Duration = Duration::from_secs(15);

/// Writes every status of Gateway API that differs from the stored one.
pub(crate) struct GatewayStatus {
    client: Client,
    stored: watch::Receiver<Option<StoredGateways>>,
    publications: watch::Receiver<Option<PublishedTable>>,
    fleet: watch::Receiver<Fleet>,
    /// The namespaces whose statuses are ours.
    claims: Arc<Claims>,
}

// === impl GatewayStatus ===

impl GatewayStatus {
    pub(crate) fn new(
        client: &Client,
        stored: watch::Receiver<Option<StoredGateways>>,
        inputs: &Inputs,
    ) -> Self {
        Self {
            client: client.clone(),
            stored,
            publications: inputs.publications.clone(),
            fleet: inputs.fleet.clone(),
            claims: Arc::clone(&inputs.claims),
        }
    }

    /// Writes while we lead, until `shutdown`.
    pub(crate) async fn run(mut self, mut leadership: Leadership, mut shutdown: Shutdown) {
        let settled = Instant::now() + SETTLE;
        loop {
            tokio::select! {
                () = leadership.gained() => {}
                () = shutdown.requested() => return,
            }
            let mut lost = leadership.clone();
            tokio::select! {
                () = self.lead(settled, &leadership) => {}
                () = lost.lost() => {}
                () = shutdown.requested() => return,
            }
        }
    }

    async fn lead(&mut self, settled: Instant, leadership: &Leadership) {
        loop {
            self.stored.borrow_and_update();
            self.publications.borrow_and_update();
            self.fleet.borrow_and_update();
            let is_settled = Instant::now() >= settled;
            let writes = self.due(is_settled).into_iter();
            let writes = join_all(writes.map(|status| self.write(status, leadership)));
            if !writes.await.into_iter().all(|written| written) {
                sleep(RETRY).await;
                continue;
            }
            let settling = async {
                if is_settled {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep_until(settled).await;
            };
            tokio::select! {
                Ok(()) = self.stored.changed() => {}
                Ok(()) = self.publications.changed() => {}
                Ok(()) = self.fleet.changed() => {}
                () = settling => {}
                else => std::future::pending().await,
            }
            sleep(COALESCE).await;
        }
    }

    /// Every status that is not stored as it should be.
    fn due(&self, is_settled: bool) -> Vec<(DynamicObject, &'static str, Value)> {
        let (Some(stored), Some(table)) = (
            self.stored.borrow().clone(),
            self.publications.borrow().clone(),
        ) else {
            return Vec::new();
        };
        let fleet = self.fleet.borrow().clone();
        let facts = Facts {
            table: &table,
            fleet: &fleet,
            service: stored.service.as_ref(),
            is_settled,
        };
        let verdicts = &table.compilation.compiled.gateways;
        let now_ms = clock::now().unix_ms;
        let class = stored.class.iter().zip(&verdicts.class);
        let classes = class.filter_map(|(class, verdict)| {
            let wanted = WantedStatus::of_class(verdict);
            let status = wanted.changed(class, now_ms)?;
            Some((class.clone(), "gatewayclasses", status))
        });
        let gateways = verdicts.gateways.iter().filter_map(|(name, verdict)| {
            let gateway = stored.gateways.get(name)?;
            let wanted = facts.of_gateway(gateway, verdict);
            let status = wanted.changed(gateway, now_ms)?;
            Some((gateway.clone(), "gateways", status))
        });
        classes.chain(gateways).collect()
    }

    /// Writes one status; false if that failed and has to be tried again.
    async fn write(
        &self,
        (object, plural, status): (DynamicObject, &'static str, Value),
        leadership: &Leadership,
    ) -> bool {
        let name = object.name_any();
        let namespace = object.namespace();
        if let Some(namespace) = &namespace {
            match self.claims.hold(namespace).await {
                Ok(true) => {}
                Ok(false) => return true,
                Err(error) => {
                    warn!(namespace, error = %chain(&error), "whose the status is cannot be read");
                    return false;
                }
            }
        }
        if !leadership.holds() {
            return true;
        }
        let kind = match namespace {
            Some(_) => "Gateway",
            None => "GatewayClass",
        };
        let resource = gateway_resource(kind, plural);
        let api: Api<DynamicObject> = match &namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&status);
        let call = api.patch_status(&name, &parameters, &patch);
        match timeout(PATIENCE, call).await {
            Ok(Ok(_written)) => true,
            // Deleted, or replaced by one of the same name: the event is on its way.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                debug!(kind, name, %status, "status not written");
                true
            }
            Ok(Err(error)) => {
                warn!(kind, name, error = %chain(&error), "status could not be written");
                false
            }
            Err(_elapsed) => {
                warn!(kind, name, "the API server does not answer a status write");
                false
            }
        }
    }
}
