//! A file, and an upload that becomes one.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Owned;

#[derive(Clone, Debug)]
pub(crate) struct StoredFile {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) name: String,
    pub(crate) purpose: String,
    pub(crate) data: Bytes,
    pub(crate) project: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) name: String,
    pub(crate) purpose: String,
    pub(crate) bytes: u64,
    pub(crate) status: &'static str,
    /// By the ids of the parts.
    pub(crate) parts: Vec<(String, Bytes)>,
    pub(crate) file: Option<StoredFile>,
    pub(crate) project: Option<String>,
}

impl StoredFile {
    pub(crate) fn object(&self) -> Value {
        json!({
            "object": "file", "id": self.id, "purpose": self.purpose, "filename": self.name,
            "bytes": self.data.len(), "created_at": self.created, "expires_at": null,
            "status": "processed", "status_details": null,
        })
    }
}

impl Upload {
    pub(crate) fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "upload", "bytes": self.bytes, "created_at": self.created,
            "filename": self.name, "purpose": self.purpose, "status": self.status,
            "expires_at": self.created + 3_600,
            "file": self.file.as_ref().map(StoredFile::object),
        })
    }
}

impl Owned for StoredFile {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}

impl Owned for Upload {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}
