//! What operator and proxy say to each other: versioned types, their bytes, and nothing that moves
//! them.
//!
//! A version is a module. Within a version, fields may be added but never change their meaning: a
//! reader ignores fields that it does not know, and refuses enum values that it does not know. So
//! whatever *restricts* must be added as an enum value, never as a field, lest an older proxy
//! admits more than was meant.

pub mod v1;
