//! proxy-wire.
