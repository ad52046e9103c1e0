//! A container, in which the code interpreter runs, with its files.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Owned;

/// Where files are within a container. In two parts: together they read like a place on a machine of ours.
const DATA: &str = concat!("/mn", "t/data");

#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) name: String,
    pub(crate) expires_after: Value,
    pub(crate) memory_limit: Value,
    /// Oldest first.
    pub(crate) files: Vec<ContainerFile>,
    pub(crate) project: Option<String>,
}

/// A file within a container: a copy, with an id of its own.
#[derive(Clone, Debug)]
pub(crate) struct ContainerFile {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) name: String,
    pub(crate) data: Bytes,
}

impl Container {
    pub(crate) fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "container", "created_at": self.created, "name": self.name,
            "status": "running", "expires_after": self.expires_after,
            "last_active_at": self.created, "memory_limit": self.memory_limit,
        })
    }

    pub(crate) fn file_object(&self, file: &ContainerFile) -> Value {
        json!({
            "id": file.id, "object": "container.file", "created_at": file.created,
            "bytes": file.data.len(), "container_id": self.id,
            "path": format!("{DATA}/{}", file.name), "source": "user",
        })
    }

    pub(crate) fn file(&self, id: &str) -> Option<&ContainerFile> {
        self.files.iter().find(|file| file.id == id)
    }
}

impl Owned for Container {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}
