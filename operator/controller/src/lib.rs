//! The operator's side of the API server: watches the objects, has them compiled, and, as the
//! holder of the lease, writes the results into their status.
//!
//! Nothing else in the operator calls the API server. This crate refuses to know how a table
//! reaches the proxies: it reads a [`PublishedTable`] and the publisher's fleet. Every operator
//! replica watches and compiles; one, the `leader`, writes.
//!
//! The `revision` of a table is the newest resource version in it. The watches are independent, but for
//! those of Secrets: they keep what AIBackends refer to, so they begin when these are listed.

mod authority;
mod checkpoint;
mod claims;
mod compiler;
mod config;
mod connect;
mod controller;
mod epoch;
mod event_writer;
mod events;
mod gateway_status;
mod gateway_watch;
mod health;
mod kept;
mod lease;
mod metrics;
mod pace;
mod pending;
mod pods;
mod resource;
mod retirements;
mod review;
#[cfg(test)]
mod scenario;
mod served;
mod snapshot;
mod state_keys;
mod status;
mod stored_status;
mod text;
mod warnings;
mod watch;

pub use authority::{CaError, load_or_create_ca};
pub use checkpoint::load_checkpoint;
pub use compiler::Compilation;
pub use config::{Config, GatewayConfig};
pub use connect::{ConnectError, connect};
pub use controller::Controller;
pub use health::Health;
pub use kube::Client;
pub use lease::Timing;
pub use metrics::Metrics;
pub use review::TokenReviewer;
pub use state_keys::ensure_state_keys;
pub use status::PublishedTable;
