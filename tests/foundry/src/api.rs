//! The APIs that the simulator speaks, a file each; `routes` says which path leads where.

pub(crate) mod batches;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod containers;
pub(crate) mod conversations;
pub(crate) mod deployments;
pub(crate) mod embeddings;
pub(crate) mod files;
pub(crate) mod images;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod moderations;
pub(crate) mod responses;
pub(crate) mod speech;
pub(crate) mod transcriptions;
pub(crate) mod vector_stores;
