//! The words of a consumer's Secret: its entries, annotations and labels.

use crate::bounds::is_graphic;

/// The annotation that names the consumer.
pub const CONSUMER: &str = "tundish.dev/consumer";
/// The annotation with the key's expiry in RFC 3339.
pub const EXPIRES: &str = "tundish.dev/expires";
/// The prefix of labels with the consumer's attributes.
pub const ATTRIBUTE_PREFIX: &str = "attributes.tundish.dev/";
/// The entry with the raw key.
pub const RAW: &str = "key";
/// The entry with the key's SHA-256 in hex.
pub const DIGEST: &str = "sha256";
/// The entry with the SHA-256 of `NAMESPACE/KEY` in hex.
pub const BOUND: &str = "bound-sha256";
/// Longest raw key in bytes: no head of a request, which would show it, is longer.
pub const LONGEST_KEY: usize = 32 * 1_024;
/// Longest name of a consumer: as that of an object.
pub(crate) const LONGEST_NAME: usize = 253;

/// Whether a consumer may have this name.
#[must_use]
pub fn is_consumer(name: &str) -> bool {
    is_graphic(name) && name.len() <= LONGEST_NAME
}
