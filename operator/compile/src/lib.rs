//! From objects as stored to the table that the gateway follows: [`Index`] -> validate -> compile.
//!
//! Pure: no clock, no file, no API server. [`compile`] cannot fail and is deterministic: the same
//! objects, in whatever order they came, give the same [`Compiled`]. An object in error fails
//! closed, alone and visibly: a route in error keeps its matches and answers an error, a backend in
//! error is left out, a quota in error denies what it can't measure. Every judgement is a
//! [`Diagnostic`] that names the field and the fix.
//!
//! Words: a `diagnostic` is one thing that is wrong, a `judgement` one condition of an object, a
//! `verdict` all judgements and diagnostics of an object.

mod backend;
mod bounds;
mod collision;
mod compile;
mod consumer;
mod decode;
mod diagnostic;
#[cfg(test)]
mod fixture;
mod grant;
mod index;
mod object;
mod quota;
mod reference;
mod route;

pub use compile::{Compiled, Settings, compile};
pub use decode::{DecodeProblem, decode};
pub use diagnostic::{Diagnostic, Judgement, Severity, Verdict};
pub use grant::{Grant, GrantFrom, GrantTo};
pub use index::Index;
pub use object::{Kind, Object, ObjectRef, wire_key};
