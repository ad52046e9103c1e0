//! Shared parts of the integration and end-to-end tests: processes that cannot outlive their test, bounded
//! level-triggered waits, a small HTTP client that records the time of each chunk, a real Redis server,
//! and a real Kubernetes control plane on loopback.
//!
//! It hides nothing: no retry of a failed step, no default for a missing tool, and no wait without a
//! name, since a failed run shows little else.

mod control_plane;
mod cpu_group;
mod fault_proxy;
pub mod http;
pub mod leaks;
mod memory_group;
mod metrics_page;
mod metrics_rules;
mod names;
pub mod paths;
mod process;
mod quickstart;
mod redis;
mod relay;
mod replicas;
mod wait;

pub use control_plane::{ControlPlane, Output};
pub use cpu_group::CpuGroup;
pub use fault_proxy::{Fault, FaultProxy};
pub use memory_group::{MemoryGroup, peak_of, resident_of};
pub use metrics_page::metrics_page;
pub use metrics_rules::metrics_problems;
pub use names::Names;
pub use paths::{binary, free_port, outage, tool, workspace};
pub use process::{Process, Signal};
pub use quickstart::Quickstart;
pub use redis::Redis;
pub use relay::Relay;
pub use replicas::{Replica, Replicas};
pub use wait::{eventually, eventually_ok};

/// The flag of operators and proxies whose backends are on this machine, where a test has them all.
pub const BACKENDS_HERE: &str = "--backend-reach=loopback";
