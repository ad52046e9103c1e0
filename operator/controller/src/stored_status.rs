//! The stored metadata and status of each object: the versions that order events, and the status
//! that a wanted one is compared with.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use crds::{Condition, RouteParentStatus};
use operator_compile::ObjectRef;
use serde_json::Value;

/// One object, without its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredObject {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// The resource version; 0 if the server's is no number.
    pub(crate) version: u64,
    pub(crate) status: StoredStatus,
}

/// A stored status, as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) programmed: String,
    pub(crate) deployments: String,
    /// Of a route: what its Gateways say.
    pub(crate) parents: Vec<RouteParentStatus>,
}

/// Every object of ours, by name.
#[derive(Debug, Default)]
pub(crate) struct StoredObjects {
    all: BTreeMap<ObjectRef, StoredObject>,
    touched: BTreeSet<ObjectRef>,
}

// === impl StoredObjects ===

impl StoredObjects {
    /// Takes an object as it is now, and returns what it was.
    pub(crate) fn insert(
        &mut self,
        object: ObjectRef,
        stored: StoredObject,
    ) -> Option<StoredObject> {
        self.touched.insert(object.clone());
        self.all.insert(object, stored)
    }

    pub(crate) fn remove(&mut self, object: &ObjectRef) {
        self.touched.remove(object);
        self.all.remove(object);
    }

    /// The objects that have come or changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<ObjectRef> {
        std::mem::take(&mut self.touched)
    }
}

impl Deref for StoredObjects {
    type Target = BTreeMap<ObjectRef, StoredObject>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

// === impl StoredObject ===

impl StoredObject {
    /// This object, or with the status of `written` if that write is newer than this observation.
    pub(crate) fn after<'a>(&'a self, written: Option<&Self>) -> Cow<'a, Self> {
        match written.filter(|written| written.supersedes(self)) {
            Some(written) => Cow::Owned(Self {
                status: written.status.clone(),
                ..self.clone()
            }),
            None => Cow::Borrowed(self),
        }
    }

    /// Whether this is a later version of the same object.
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        self.uid == other.uid && self.version > other.version
    }
}

// === impl StoredStatus ===

impl StoredStatus {
    /// Reads a status leniently: a newer operator may have written it.
    pub(crate) fn read(status: Option<&Value>) -> Self {
        let Some(status) = status else {
            return Self::default();
        };
        let conditions = status.get("conditions").and_then(Value::as_array);
        let parents = status.get("parents").and_then(Value::as_array);
        let text = |field: &str| {
            let text = status.get(field).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        Self {
            observed_generation: status.get("observedGeneration").and_then(Value::as_i64),
            conditions: conditions
                .into_iter()
                .flatten()
                .filter_map(|condition| serde_json::from_value(condition.clone()).ok())
                .collect(),
            programmed: text("programmed"),
            deployments: text("deployments"),
            parents: parents
                .into_iter()
                .flatten()
                .filter_map(|parent| serde_json::from_value(parent.clone()).ok())
                .collect(),
        }
    }

    /// The condition of this type.
    pub(crate) fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|stored| stored.type_ == type_)
    }

    /// The newest judged generation.
    pub(crate) fn newest_generation(&self) -> Option<i64> {
        let judged = self.conditions.iter().map(|one| one.observed_generation);
        judged.chain([self.observed_generation]).flatten().max()
    }
}
