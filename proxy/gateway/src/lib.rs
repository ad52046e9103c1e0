//! proxy-gateway.
