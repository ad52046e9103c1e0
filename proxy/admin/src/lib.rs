//! What every long-running process of the project needs around its work: the admin port
//! (`/livez`, `/readyz`, `/metrics`), logging, signals, a clock, tasks that report a panic, and
//! streams that give up a peer which reads nothing.
//!
//! Refuses to know what the process does; of the pages that processes add it knows only the form.

pub mod clock;
pub mod exit;
pub mod http;
pub mod pages;
pub mod shutdown;
pub mod stall;
pub mod task;
pub mod telemetry;
