//! The surroundings of every long-running process of the project: the admin port (`/livez`,
//! `/readyz`, `/metrics`), HTTP connections that end gracefully, addresses and descriptors of listeners,
//! a budget of memory, logging, an output that blocks no one, signals, a clock, tasks that report a panic, and streams that
//! time out on a peer which reads nothing.
//!
//! Refuses to know what the process does; of the pages that processes add it knows only the form.

pub mod address;
pub mod background;
pub mod clock;
pub mod connection;
pub mod descriptors;
pub mod dial;
pub mod errors;
pub mod exit;
mod exposition;
pub mod host;
pub mod http;
pub mod memory;
pub mod output;
pub mod pages;
mod process;
pub mod reminder;
pub mod shutdown;
pub mod stall;
pub mod task;
pub mod telemetry;
