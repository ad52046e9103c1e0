//! proxy-sync.
