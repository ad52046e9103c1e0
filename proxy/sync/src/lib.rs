//! Follows the operators' channel, gives every new table to a sink, and keeps the last good one. The
//! other way it tells what the replica has counted.
//!
//! Every operator replica is followed at once; the newest revision wins, whoever sent it, and an
//! older one is ignored. Refuses to lose a table: what cannot be understood is refused, and what is
//! live stays live, also when every operator is gone. Words: a `view` is the table that one operator
//! believes us to have, the `current` table is the one that is live.

mod backoff;
mod config;
mod connection;
mod follow;
mod last_good;
mod lines;
mod live;
mod metrics;
mod reports;
mod session;

pub use config::{Config, ConfigError};
pub use follow::follow;
pub use live::Update;
pub use metrics::Metrics;
pub use proxy_wire::v1::Denials;
pub use reports::Counted;
