//! `tundish`.
fn main() {}
