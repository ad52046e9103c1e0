//! What operator and proxy send each other: versioned types, their bytes, and no I/O.
//!
//! A version is a module. Within a version, members may be added but never change their meaning: a
//! reader ignores members that it does not know, and refuses enum values that it does not know. So an
//! addition that *restricts* is a feature which the entry needs (`v1::Features`): a proxy that
//! lacks it restricts the entry instead of admitting more than was declared.

pub mod v1;
