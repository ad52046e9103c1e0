//! Certificates of the channel: the operator's own CA, and the leaf of the server.
//!
//! Words: an `authority` is a CA certificate with its key; `authorities` are the one that signs,
//! its successor, and the former ones; the `bundle` is what proxies trust. This module takes and
//! gives PEM and refuses to know where it is stored.
//!
//! Rotations overlap: a successor is in the bundle for [`ANNOUNCE_MS`] before it signs anything,
//! and the old authority stays in it until its end. So a proxy that has read any bundle of the last
//! month trusts the leaf at every moment.

mod authorities;
mod authority;
mod certificates;
#[cfg(test)]
mod tests;

pub use authorities::{ANNOUNCE_MS, Authorities, StoredAuthorities};
pub use authority::{Authority, Leaf, TlsError};
pub use certificates::Certificates;
