//! `tundish-operator`.
fn main() {}
