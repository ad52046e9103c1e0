//! Follows the operators' channel, gives every new table to a sink, and keeps the last good one. In
//! the other direction it reports this replica's counters.
//!
//! It follows every operator replica at once. The newest revision wins, whichever operator sent it;
//! an older one is ignored. A table is never lost: one that cannot be read is refused, and the current
//! one stays, with every operator gone too. A proxy that starts then has the table of its predecessor, or
//! the snapshot that the operators stored. Words: the `current` table is the one in use, a `view` is
//! the table that one operator believes us to have.

mod backoff;
mod config;
mod connection;
mod contact;
mod current;
mod follow;
mod last_good;
mod lines;
mod metrics;
mod mounted;
mod reports;
mod session;

pub use config::{Config, ConfigError};
pub use current::{Origin, Update};
pub use follow::follow;
pub use metrics::Metrics;
pub use proxy_wire::v1::{Counted, Denials, DeploymentReport, NoToken};
