//! The arguments and the composition of the proxy, shared by `tundish-proxy` and `tundish run`.

pub mod app;
pub mod args;
pub mod replica;
pub mod runtime;
