//! The data plane: listeners, the life of a request, the quota ledger, the way to backends.
//!
//! Follow a request: `server` accepts, `request` decides and forwards, `relay` carries the
//! answer and settles. Refuses to know where tables come from: they are given to
//! [`Gateway::publish`].

mod answer;
mod config;
mod credential;
mod dialect;
mod exchange;
mod explain;
mod forward;
mod guess;
mod learned;
mod ledger;
mod live;
mod metrics;
mod prompt;
mod reading;
mod relay;
mod request;
mod scan;
mod server;
mod splice;
mod sse;
mod store;
#[cfg(test)]
mod test_support;
#[cfg(feature = "test-util")]
pub mod test_util;
mod tls;
mod upstream;
mod usage;
mod usage_page;

pub use config::{Config, TlsFiles};
pub use explain::ExplainError;
pub use metrics::Metrics;
pub use server::{Gateway, Serving, StartError, StoreLink};
pub use store::{InvalidAddress, StoreAddress, StoreConfig};
