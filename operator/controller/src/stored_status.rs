//! What the API server last told about each object, beside its content: the versions that order
//! events, and the status that is stored, with which a wanted one is compared.

use std::collections::BTreeMap;

use crds::Condition;
use operator_compile::ObjectRef;
use serde_json::Value;

/// One object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// The resource version, 0 if the server's is no number.
    pub(crate) version: u64,
    pub(crate) status: StoredStatus,
}

/// A status as stored, as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) programmed: String,
}

/// All objects by name.
pub(crate) type KnownObjects = BTreeMap<ObjectRef, Known>;

// === impl StoredStatus ===

impl StoredStatus {
    /// Reads a status leniently: what a newer operator wrote must not keep this one from working.
    pub(crate) fn read(status: Option<&Value>) -> Self {
        let Some(status) = status else {
            return Self::default();
        };
        let conditions = status.get("conditions").and_then(Value::as_array);
        let programmed = status.get("programmed").and_then(Value::as_str);
        Self {
            observed_generation: status.get("observedGeneration").and_then(Value::as_i64),
            conditions: conditions
                .into_iter()
                .flatten()
                .filter_map(|condition| serde_json::from_value(condition.clone()).ok())
                .collect(),
            programmed: programmed.unwrap_or_default().to_owned(),
        }
    }

    /// The condition of this type.
    pub(crate) fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|stored| stored.type_ == type_)
    }

    /// The newest generation that anybody judged.
    pub(crate) fn newest_generation(&self) -> Option<i64> {
        let judged = self.conditions.iter().map(|one| one.observed_generation);
        judged.chain([self.observed_generation]).flatten().max()
    }
}
