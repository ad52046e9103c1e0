//! A faithful Microsoft Foundry on loopback: what the gateway's tests, its benchmarks and people who
//! try it out talk to instead of a paid resource.
//!
//! It speaks Foundry's dated, v1 and project surfaces and Claude's, whole and streamed, with Azure's odd
//! chunks, headers, errors and limits; misbehaves when told to; and remembers what it received, what it
//! made and what it would have billed. Beside it stands as much of Entra
//! as hands out tokens, for Foundry and for a gateway, and publishes the keys that prove them. It runs no model: the answer is a fixed text, one word per token.
//!
//! Words: a *deployment* is what a request names, its *model* what answers; a *chunk* is one SSE
//! event; *billed* is what was really produced, also when the caller hung up.
//!
//! In a test: `let sim = Sim::start(&Config::default())?;`, then point the gateway at `sim.url()`.

mod answer;
mod api;
mod args;
mod auth;
mod body;
mod cache;
mod call;
mod clock;
mod config;
mod control;
mod deployment;
mod doors;
mod entra;
mod errors;
mod exchange;
mod family;
mod faults;
mod filter;
mod form;
mod foundry;
mod headers;
mod limits;
mod measure;
mod named_files;
mod prompts;
mod record;
mod response;
mod routes;
mod script;
mod server;
mod sim;
mod sse;
mod state;
mod stream;
mod surface;
mod ticket;
mod tool_call;

pub use args::Args;
pub use auth::fingerprint;
pub use config::{Capacity, Classes, Config, DeploymentConfig, InvalidDeployment};
pub use entra::{
    API, API_URI, AUDIENCE, AccessToken, Api, App, Assignment, CLIENT, Directory, Federation,
    IDENTITY_HEADER, ISSUER, InvalidToken, Rotation, SECRET, SUBJECT, TENANT,
};
pub use faults::{Fault, InvalidFault, Spacing};
pub use record::{Billed, Outcome, Record, Totals, Usage};
pub use sim::Sim;

#[cfg(test)]
mod tests;
