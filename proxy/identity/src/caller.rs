//! Tokens of callers: whose they are, by the keys of their issuer.
//!
//! [`Keys`] holds the keys of one issuer, which a task fetches. [`Expectation::judge`] is pure: a token, the
//! keys and the time give [`Claims`] or the reason why not. [`Mapping`] makes a consumer of claims. Refuses
//! to take the algorithm from the token: a key has its own, so neither `none` nor a shared secret can pass.

mod claims;
mod fetch;
mod key_set;
mod keys;
mod mapping;
#[cfg(test)]
mod signer;
mod token;

pub use claims::Claims;
pub use fetch::KeySource;
pub use key_set::KeySet;
pub use keys::Keys;
pub use mapping::{Consumer, Mapping, Unmapped};
pub use token::{Expectation, Rejected};
