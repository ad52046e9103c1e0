//! Replicas that share their limits by a real Redis: what they admit together, with the store slow,
//! gone, emptied or failed over, and replicas killed; and the store's script against its model.

#![expect(clippy::indexing_slicing, reason = "a wrong index is a failed test")]
#![expect(clippy::print_stdout, reason = "what was measured, for `--nocapture`")]

mod load;

mod limits;
mod manifests;
mod mutation;
mod outages;
mod overrides;
mod recall;
mod script;
mod servers;
