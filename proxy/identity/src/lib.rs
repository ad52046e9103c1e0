//! Who the gateway is at its backends: tokens of Microsoft Entra, for backends without keys. And who callers
//! are that show tokens.
//!
//! An [`Identity`](proxy_core::table::Identity) has one [`Credential`], whichever tables and endpoints
//! show it. A task of its own fetches its token before the first request needs it, and again at half of
//! the token's life. A failed fetch leaves the old token until that ends. Refuses to cache on disk, and
//! to log or show a token.
//!
//! [`caller`] judges the tokens of callers, by the keys of their issuers.
//!
//! Words: a *bearer* is a token ready to be sent; an *identity* is who, a *scope* what for; the
//! *authority* is Entra's host; an *assertion* is the `ServiceAccount` token that Entra trades in.

mod address;
mod answer;
mod bearer;
pub mod caller;
mod config;
mod credential;
mod exchange;
mod failure;
mod identities;
mod keeper;
mod login;
mod metrics;
mod provider;
mod schedule;

pub use address::{Address, InvalidAddress};
pub use bearer::{Bearer, InvalidToken};
pub use config::{
    ApiServer, AppService, Config, IMDS, PUBLIC_AUTHORITY, Roots, TokenProxy, Workload,
};
pub use credential::Credential;
pub use failure::NoToken;
pub use identities::Identities;
pub use login::{Login, Tool};
pub use metrics::Metrics;
