//! operator-compile.
