//! Limits, and the counters that enforce them.
//!
//! [`reserve`] **is** the check: it debits every counter of a request in one step, or none. Nothing
//! here answers "is there quota" without taking it. [`Entry::settle`] later corrects a reservation;
//! use beyond the limit is carried as debt.
//!
//! Words: a `limit` is the declared rule, a `counter` its state for one subject, a `cost` what a
//! request asks for, a `reservation` what it was debited.
#![deny(clippy::arithmetic_side_effects)]

mod calendar;
mod counter;
mod escrow;
mod limit;
mod loss;
mod report;
mod reserve;
mod ring;
#[cfg(test)]
mod tests;
mod warning;
mod window;

pub use calendar::{Period, TimeZone};
pub use counter::Counter;
pub use escrow::Escrow;
pub use escrow::grants::Slice;
pub use escrow::refusal::Profile;
pub use escrow::request::{LeaseReply, LeaseReport, LeaseRequest, RoundTrip, repeats_after};
pub use limit::{Cost, Hold, Limit, LimitName, Mode, OnStoreLoss, Per, Unit, Wait};
pub use loss::Loss;
pub use report::{Carried, CounterReading, StoreState, SubjectKey};
pub use reserve::{Backing, Entry, Exceeded, Reservation, Shortfall, debit, judge, reserve};
pub use warning::{Reached, WarnAt, Warned, percent_used};
pub use window::{StoreWindow, Window};
