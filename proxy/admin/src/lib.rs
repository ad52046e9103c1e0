//! The surroundings of every long-running process of the project: the admin port (`/livez`,
//! `/readyz`, `/metrics`), HTTP connections that end gracefully, logging, signals, a clock, tasks
//! that report a panic, and streams that time out on a peer which reads nothing.
//!
//! Refuses to know what the process does.

pub mod background;
pub mod clock;
pub mod connection;
pub mod errors;
pub mod exit;
pub mod http;
pub mod shutdown;
pub mod stall;
pub mod task;
pub mod telemetry;
