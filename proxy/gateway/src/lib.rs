//! The data plane: listeners, the life of a request, endpoints, and what is recorded.
//!
//! Follow a request: `server` accepts, `request` decides and charges, `forward` chooses an endpoint, `relay`
//! carries the answer, `exchange` settles, `record` counts, `access` logs. Each imports only what comes
//! after it. Refuses to know where tables come from: they are given to [`Gateway::publish`].

mod access;
mod additions;
mod aftermath;
mod alarm;
mod answer;
mod backends_page;
mod bound;
mod client;
mod config;
mod cors;
mod credential;
mod detail;
mod drain;
mod endpoint;
mod estimate;
mod exchange;
mod explain;
mod fields;
mod follow;
mod forward;
mod gateway;
mod intake;
mod kept;
mod live;
mod marking;
mod memory;
mod metrics;
mod origin;
mod overload;
mod pace;
mod peer;
mod pressure;
mod proofs;
mod quirks;
mod rate;
mod record;
mod relay;
mod replay;
mod request;
mod resource;
mod scan;
mod server;
mod sizes;
mod slot;
mod source;
mod state;
mod surface;
mod tail;
#[cfg(test)]
mod test_support;
mod tls;
mod token;
mod trouble;
mod trust;
mod upload;
mod upstream;
mod usage_page;
mod vocabulary;
mod watch;

pub use config::{AccessLog, Config, TlsFiles, TlsSource};
pub use explain::ExplainError;
pub use gateway::{Gateway, Serving, StartError};
pub use kept::{StateKeys, StateKeysError};
pub use metrics::Metrics;
