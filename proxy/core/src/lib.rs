//! The domain of the gateway: who may call what, at which price, and where the call goes.
//!
//! Pure: no I/O, no clock, no randomness, no serialisation. Callers pass the time as a
//! [`names::Moment`] and randomness as a [`rand::Rng`]. Modules import in one direction:
//! `names` <- {`route`, `auth`, `tokens`, `quota`, `balance`} <- `table` <- `admit` <- `whatif`; `reach` needs
//! `route` alone, `overload` `table`.

pub mod admit;
pub mod auth;
pub mod balance;
pub mod names;
pub mod overload;
pub mod quota;
pub mod reach;
pub mod route;
pub mod table;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
pub mod tokens;
pub mod whatif;
