//! Writes Kubernetes Events, in `events.k8s.io/v1`.
//!
//! The name of an Event is given: the API server takes one of a name once, so two leaders in turn say the
//! same thing once. kube's recorder names them by the time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crds::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use operator_compile::ObjectRef;
use proxy_admin::clock;
use proxy_admin::errors::chain;
use tracing::debug;

use crate::config::FIELD_MANAGER;
use crate::metrics::{Metrics, ResultLabel, WriteResult};
use crate::resource::resource;
use crate::text::cut;

/// Longest note in bytes: the API server refuses notes above 1 kB.
const NOTE: usize = 1_000;

/// Longest part of an object's name in that of an Event, which has at most 253 characters.
const NAME: usize = 230;

/// Longest wait for one event.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) object: ObjectRef,
    pub(crate) uid: String,
    pub(crate) reason: Reason,
    /// What was being done.
    pub(crate) action: &'static str,
    pub(crate) note: String,
    /// Tells it from others about the object.
    pub(crate) id: u64,
}

/// Writes Events as one reporter. Clones are the same.
#[derive(Clone)]
pub(crate) struct EventWriter {
    client: Client,
    identity: String,
    metrics: Metrics,
}

// === impl Notice ===

impl Notice {
    /// An id of these facts, the same in every operator of this version.
    pub(crate) fn id_of(facts: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        facts.hash(&mut hasher);
        hasher.finish()
    }

    fn event(&self, identity: &str) -> Event {
        let Self { object, id, .. } = self;
        let resource = resource(object.kind);
        let namespace = Some(object.name.namespace().to_owned());
        let name = object.name.name();
        let short = name.get(..NAME).unwrap_or(name);
        let short = short.trim_end_matches(['.', '-']);
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{short}.{id:016x}")),
                namespace: namespace.clone(),
                ..ObjectMeta::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(self.reason.as_str().to_owned()),
            action: Some(self.action.to_owned()),
            note: Some(cut(&self.note, NOTE)),
            regarding: Some(ObjectReference {
                api_version: Some(resource.api_version),
                kind: Some(resource.kind),
                namespace,
                name: Some(name.to_owned()),
                uid: Some(self.uid.clone()),
                ..ObjectReference::default()
            }),
            event_time: Timestamp::from_millisecond(clock::now().unix_ms)
                .ok()
                .map(MicroTime),
            reporting_controller: Some(format!("{}/{FIELD_MANAGER}", crds::GROUP)),
            reporting_instance: Some(identity.to_owned()),
            ..Event::default()
        }
    }
}

// === impl EventWriter ===

impl EventWriter {
    pub(crate) fn new(client: Client, identity: &str, metrics: Metrics) -> Self {
        Self {
            client,
            // The API server allows 128 characters.
            identity: identity.chars().take(128).collect(),
            metrics,
        }
    }

    /// Writes one; it is well if the API server has it already.
    pub(crate) async fn write(&self, notice: &Notice) -> WriteResult {
        let object = &notice.object;
        let events: Api<Event> = Api::namespaced(self.client.clone(), object.name.namespace());
        let (parameters, event) = (PostParams::default(), notice.event(&self.identity));
        let written = tokio::time::timeout(PATIENCE, events.create(&parameters, &event));
        let result = match written.await {
            Ok(Ok(_)) => WriteResult::Stored,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => WriteResult::Stored,
            Ok(Err(error)) => {
                debug!(%object, error = %chain(&error), "event not written");
                WriteResult::Failed
            }
            Err(_elapsed) => WriteResult::Failed,
        };
        let label = ResultLabel { result };
        self.metrics.event_writes.get_or_create(&label).inc();
        result
    }
}
