//! What clients and backends speak: one row per operation and dialect, and everything that a row
//! names. Pure: bytes in, bytes and facts out.
//!
//! [`ROWS`] is the table, [`find`] its lookup. A new operation is a row, a usage reader, and a grammar
//! if its events are new. Refuses to do I/O, and to know which operation a caller may use.

mod api;
mod body;
mod chat;
mod error;
pub mod http1;
mod json;
pub mod models;
mod multipart;
mod path;
mod prompt;
mod rows;
mod scan;
mod splice;
mod stream;
mod usage;

pub use api::{Answer, Api, Call, Form, Found, Unserved, Upstream, UsageRequest, find};
pub use body::{Body, Layout, Malformed, Member, Members, StreamOptions};
pub use error::Dialect;
pub use path::{BadParameter, encode, parameter};
pub use prompt::{Prompt, count};
pub use rows::ROWS;
pub use splice::{Edit, splice};
pub use stream::{Grammar, Stream};
pub use usage::Reader;
