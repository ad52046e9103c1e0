//! The data plane.
mod scan;
mod sse;
mod usage;
