//! The domain of the gateway: who may call what, at which price, and where the call goes.
//!
//! Pure: no I/O, no clock, no randomness of its own, no serialisation. Time comes in as
//! [`names::Moment`], chance as a [`rand::Rng`]. Modules build on each other in one direction:
//! `names` <- {`route`, `auth`, `tokens`, `quota`, `balance`} <- `table` <- `admit` <- `whatif`.

pub mod admit;
pub mod auth;
pub mod balance;
pub mod names;
pub mod quota;
pub mod route;
pub mod table;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
pub mod tokens;
pub mod whatif;
