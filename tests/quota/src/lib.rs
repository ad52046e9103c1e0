//! The shared store of counters as a model, and a simulation of replicas that use it.
//!
//! [`Model`] says in plain Rust what the store's script does; a test with a real Redis compares the
//! two. [`run`] lets several replicas borrow from it while calls are lost, answers late, clocks wrong,
//! replicas paused or killed and the store down or emptied, and checks the bounds of docs/quota-bounds.md
//! after every admission. Everything follows from a seed.

#![expect(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

pub mod model;
mod recount;
pub mod replica;
pub mod world;

pub use model::{Flaw, Model};
pub use world::{Findings, Scenario, run};
