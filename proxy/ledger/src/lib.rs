//! The counters of all limits: of this replica alone, or lent by a store that replicas share.
//!
//! A request reserves from every limit that applies, in one step or not at all ([`Ledger::reserve`]); its
//! [`Charge`] settles once. The [`Agent`] carries calls to the store, so that requests never wait for
//! it in the steady state. Refuses to know HTTP: it returns numbers, the gateway makes answers of them.

mod address;
mod agent;
mod carryover;
mod charge;
mod counters;
mod exposure;
mod hold;
mod ledger;
mod level;
mod limit;
mod link;
mod looks;
mod metrics;
mod place;
mod reached;
mod recall;
mod refusal;
mod reserve;
mod script;
mod slot;
mod store;
#[cfg(feature = "test-util")]
pub mod test_util;
mod unproved;
mod warning;

pub use address::{InvalidAddress, StoreAddress};
pub use agent::Agent;
pub use charge::{Charge, Settled};
pub use counters::{Counters, Subject};
pub use ledger::Ledger;
pub use level::{Level, Levels};
pub use limit::EnforcedLimit;
pub use metrics::Metrics;
pub use refusal::{Cause, Refused, Spent};
pub use reserve::Asking;
pub use slot::{Counted, Slot};
pub use store::StoreConfig;
