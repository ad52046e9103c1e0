//! Tokens of callers: whose they are, by the keys of their issuer.
//!
//! [`Issuers`] holds the keys of every issuer, which tasks fetch, and makes a [`Verifier`] for each table.
//! [`Expectation::judge`] is pure: a token, the keys and the time give [`Claims`] or the reason why not.
//! [`consumer`] makes a consumer of claims. Refuses to take the algorithm from the token: a key has its own,
//! so neither `none` nor a shared secret can pass.

mod claims;
mod copy;
mod fetch;
mod issuers;
mod key_set;
mod keys;
#[cfg(test)]
mod loopback;
mod mapping;
#[cfg(test)]
mod signer;
mod token;
mod verifier;

pub use claims::Claims;
pub use issuers::Issuers;
pub use key_set::KeySet;
pub use mapping::{Consumer, Unmapped, consumer};
pub use token::{Expectation, Rejected};
pub use verifier::Verifier;
