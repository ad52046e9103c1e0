//! The commands of `tundish`; each is a module of its name.

mod access_log;
pub mod admin;
pub mod args;
pub mod backends;
pub mod check;
mod columns;
pub mod explain;
pub mod key;
pub mod label;
pub mod lifetime;
pub mod manifests;
pub mod quota;
pub mod ready;
pub mod report;
pub mod run;
pub mod simulate;
pub mod who;
mod yaml;
