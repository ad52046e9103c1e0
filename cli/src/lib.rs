//! The commands of `tundish`. Each is a module of its name.

pub mod args;
pub mod check;
pub mod manifests;
pub mod report;
pub mod run;
mod yaml;
