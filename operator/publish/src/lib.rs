//! Serves the compiled table to proxies and records what each of them acknowledged.
//!
//! [`Publisher`] holds the newest table and the fleet; [`Server`] is the control channel's HTTP side;
//! [`tls`] makes the certificates that it shows. Who a caller is, a [`Reviewer`] says: this crate
//! knows nothing of Kubernetes. Words: a `publication` is one table that was different from the one
//! before, its `sequence` a number of this process, a `replica` one proxy, by its identity, an
//! `instance` one life of it.

mod fleet;
mod metrics;
mod publisher;
mod review;
mod server;
pub mod tls;
mod usage;

pub use fleet::{Fleet, Replica};
pub use metrics::Metrics;
pub use publisher::{Publication, Publisher};
pub use review::{Denial, Reviewer};
pub use server::{Config, Server};
