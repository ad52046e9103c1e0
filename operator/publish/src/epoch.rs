//! Revisions that stay in order when the API server's versions do not.
//!
//! A revision is the resource version of a table, as long as those only grow. After etcd was restored from a backup
//! they begin again at a lower one, and proxies would ignore every table until they have caught up. Then an epoch begins:
//! it is the upper part of a revision, so that proxies need not know of it.

/// Bits of the resource version in a revision. At a thousand changes a second they last for nine thousand years; 65,535
/// epochs remain.
const BITS: u32 = 48;

/// Largest resource version in a revision.
const VERSIONS: u64 = (1 << BITS) - 1;

/// The revision of a resource version in an epoch.
#[must_use]
pub fn revision(epoch: u16, version: u64) -> u64 {
    (u64::from(epoch) << BITS) | version.min(VERSIONS)
}

/// The epoch and the resource version of a revision.
#[must_use]
pub fn parts(revision: u64) -> (u16, u64) {
    let epoch = u16::try_from(revision >> BITS).unwrap_or(u16::MAX);
    (epoch, revision & VERSIONS)
}
