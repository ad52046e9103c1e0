//! Serves the compiled table to proxies and records their acknowledgements.
//!
//! [`Publisher`] holds the newest table and the fleet; [`Server`] is the HTTP side of the control
//! channel; [`tls`] makes its certificates. A [`Reviewer`] judges callers: this crate knows nothing
//! of Kubernetes. Words: a `publication` is one table that differed from the one before, its
//! `sequence` a number within this process, a `replica` one proxy by its identity, an `instance`
//! one process of it, the `carryover` use by others that a replica counts as well.

mod carryover;
mod changed_at;
mod deployments;
pub mod epoch;
mod fleet;
mod metrics;
mod publisher;
mod review;
mod roster;
mod server;
pub mod tls;
mod usage;
mod warnings;

pub use changed_at::ChangedAt;
pub use deployments::{Outage, Outages, Served};
pub use fleet::{Fleet, Replica};
pub use metrics::Metrics;
pub use proxy_wire::v1::{Features, PARTS, PartsError};
pub use publisher::{Publication, Publisher, SnapshotVersion};
pub use review::{Denial, Reviewer};
pub use roster::{Pod, Roster};
pub use server::{Config, Server};
pub use warnings::{LimitWarnings, QuotaWarning};
