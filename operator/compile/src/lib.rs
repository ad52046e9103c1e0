//! From stored objects to the table of the gateway: [`Index`] -> validate -> [`compile`].
//!
//! Pure: no clock, no file, no API server. [`compile`] cannot fail and is deterministic: the same
//! objects give the same [`Compiled`], whatever the order of their changes. An object in error
//! fails closed, alone and visibly: a route keeps its matches and answers an error, a backend is
//! left out, a quota denies what it can't measure. Every problem is a [`Diagnostic`] that names the
//! field and the fix.
//!
//! Words: a `diagnostic` is one problem, a `judgement` one condition of an object, a `verdict` all
//! judgements and diagnostics of an object.

mod attachment;
mod auth;
mod backend;
mod bounds;
mod certificates;
mod compile;
mod consumer;
pub mod consumer_key;
mod covered;
mod day;
mod decode;
mod diagnostic;
#[cfg(test)]
mod fixture;
pub mod gateway;
mod grant;
mod host_claim;
mod host_grant;
mod index;
mod keys;
mod label;
mod listener;
mod lookup;
mod memo;
mod mixed;
mod namespace;
mod near;
mod object;
mod price;
mod quota;
mod reach;
mod reads;
mod reference;
mod retirement;
mod route;
mod secret;
mod settings;
mod unmatched;
mod unpriced;
mod verdicts;

pub use bounds::{is_label, is_subdomain};
pub use compile::{Compiled, compile};
pub use consumer::UnusableKey;
pub use day::Day;
pub use decode::{DecodeProblem, decode};
pub use diagnostic::{Diagnostic, Judgement, ParentVerdict, Severity, Verdict};
pub use grant::{Grant, GrantFrom, GrantTo};
pub use host_grant::{HostGrant, InvalidHostGrant};
pub use index::Index;
pub use listener::{ClassVerdict, GatewayVerdict, GatewayVerdicts, ListenerVerdict};
pub use memo::Memo;
pub use namespace::INSTALLATION_NAMESPACE;
pub use object::{Kind, Object, ObjectRef};
pub use retirement::is_known;
pub use settings::{IdentityGrants, InvalidBackendHost, Secrets, Settings, Tenants, backend_host};
pub use verdicts::{ObjectVerdict, Verdicts};
