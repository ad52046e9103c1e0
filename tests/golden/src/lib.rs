//! tests-golden.
