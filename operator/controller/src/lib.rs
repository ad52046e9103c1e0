//! operator-controller.
