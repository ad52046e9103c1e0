//! `tundish-proxy`.
fn main() {}
