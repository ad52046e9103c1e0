//! tests-bench.
