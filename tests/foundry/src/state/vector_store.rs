//! A vector store: files of the resource that are searched, and the batches in which they came.

use serde_json::{Value, json};

use super::Owned;

#[derive(Clone, Debug)]
pub(crate) struct VectorStore {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) name: Value,
    pub(crate) metadata: Value,
    pub(crate) expires_after: Value,
    /// Oldest first.
    pub(crate) files: Vec<Searched>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) project: Option<String>,
}

/// A file of a store. Its bytes stay with the resource's files.
#[derive(Clone, Debug)]
pub(crate) struct Searched {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) bytes: usize,
    pub(crate) attributes: Value,
    /// The batch in which it came.
    pub(crate) batch: Option<String>,
}

/// Files that were put into a store at once.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) id: String,
    pub(crate) created: u64,
    /// It is over once it has been looked at.
    pub(crate) status: &'static str,
}

impl VectorStore {
    pub(crate) fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "vector_store", "created_at": self.created,
            "name": self.name, "metadata": self.metadata, "expires_after": self.expires_after,
            "expires_at": null, "last_active_at": self.created, "status": "completed",
            "usage_bytes": self.files.iter().map(|file| file.bytes).sum::<usize>(),
            "file_counts": counts(self.files.len()),
        })
    }

    pub(crate) fn file_object(&self, file: &Searched) -> Value {
        json!({
            "id": file.id, "object": "vector_store.file", "created_at": file.created,
            "vector_store_id": self.id, "status": "completed", "last_error": null,
            "usage_bytes": file.bytes, "attributes": file.attributes,
            "chunking_strategy": {
                "type": "static",
                "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
            },
        })
    }

    pub(crate) fn batch_object(&self, batch: &Batch) -> Value {
        let id = Some(batch.id.as_str());
        let files = self.files.iter().filter(|file| file.batch.as_deref() == id);
        json!({
            "id": batch.id, "object": "vector_store.files_batch", "created_at": batch.created,
            "vector_store_id": self.id, "status": batch.status,
            "file_counts": counts(files.count()),
        })
    }

    pub(crate) fn file(&self, id: &str) -> Option<&Searched> {
        self.files.iter().find(|file| file.id == id)
    }

    pub(crate) fn batch(&self, id: &str) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.id == id)
    }
}

/// Files are ready as soon as they are there.
fn counts(completed: usize) -> Value {
    json!({
        "in_progress": 0, "completed": completed, "failed": 0, "cancelled": 0, "total": completed,
    })
}

impl Owned for VectorStore {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}
