//! Integration tests of crates that do not know each other, and what the fuzz targets check.

pub mod fuzzing;
