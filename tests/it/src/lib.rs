//! tests-it.
