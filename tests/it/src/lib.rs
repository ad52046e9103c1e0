//! Integration tests of crates that do not depend on each other, and the checks of the fuzz targets.

pub mod fuzzing;
