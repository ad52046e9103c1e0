//! The data plane: listeners, the life of a request, endpoints, and what is recorded.
//!
//! Follow a request: `server` accepts, `request` decides and charges, `forward` chooses an endpoint, `relay`
//! carries the answer, `exchange` settles, `record` counts, `access` logs. Each imports only what comes
//! after it. Refuses to know where tables come from: they are given to [`Gateway::publish`].

mod access;
mod aftermath;
mod alarm;
mod answer;
mod config;
mod cors;
mod credential;
mod endpoint;
mod estimate;
mod exchange;
mod explain;
mod forward;
mod gateway;
mod intake;
mod live;
mod metrics;
mod origin;
mod quirks;
mod record;
mod relay;
mod request;
mod server;
mod sizes;
mod state;
#[cfg(test)]
mod test_support;
mod tls;
mod upstream;
mod usage_page;
mod vocabulary;
mod watch;

pub use config::{AccessLog, Config, TlsFiles};
pub use explain::ExplainError;
pub use gateway::{Gateway, Serving, StartError};
pub use metrics::Metrics;
