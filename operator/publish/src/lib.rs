//! operator-publish.
