//! A conversation: items to which responses add theirs.

use serde_json::{Value, json};

use super::Owned;

#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) metadata: Value,
    /// Oldest first.
    pub(crate) items: Vec<Value>,
    pub(crate) project: Option<String>,
}

impl Conversation {
    pub(crate) fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "conversation", "created_at": self.created,
            "metadata": self.metadata,
        })
    }
}

impl Owned for Conversation {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}
