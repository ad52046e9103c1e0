//! The version of the wire format.

/// The version in every snapshot and checkpoint of this module.
pub const VERSION: u32 = 1;
