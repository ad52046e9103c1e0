//! What clients and backends speak: one row per operation and dialect, and everything that a row
//! names. Pure: bytes in, bytes and facts out.
//!
//! [`ROWS`] is the table, [`find`] its lookup. A new operation is a row, a usage reader, and a grammar
//! if its events are new. Refuses to do I/O, and to know which operation a caller may use.

mod api;
pub mod batches;
mod beginning;
mod body;
mod chat;
mod claims;
pub mod coding;
mod completions;
mod end_user;
mod error;
mod files;
pub mod http1;
pub mod ids;
mod json;
mod member;
mod mentions;
mod messages;
pub mod models;
mod multipart;
mod path;
mod pieces;
mod prompt;
pub mod proxy_protocol;
mod references;
mod refusal;
mod responses;
mod rows;
mod scan;
mod speech;
mod splice;
mod stream;
mod text;
mod transcript;
mod unserved;
pub mod usage;
mod wordless;

pub use api::{
    Answer, Answers, Api, Billing, Call, Form, Found, Named, State, Unserved, Upstream,
    UsageRequest, find, is_dated, lacking, served,
};
pub use beginning::conversation;
pub use body::{
    Beginning, Body, Bound, BoundName, Files, Kept, Layout, Malformed, Member, Members, Reference,
    Server, StreamOptions,
};
pub use claims::{Claims, claims};
pub use end_user::{EndUser, Metadata, UserMember, UserMembers, Users};
pub use error::{Dialect, ErrorEvent, is_error, is_filtered};
pub use files::FileKind;
pub use multipart::FormScan;
pub use path::{BadParameter, encode, parameter};
pub use pieces::Pieces;
pub use prompt::{Media, Prompt, count, media};
pub use refusal::refused_member;
pub use responses::{Progress, progress};
pub use rows::{BATCH, CONTENT, RETRIEVED, ROWS};
pub use splice::{Edit, splice};
pub use stream::{Ending, Grammar, Said, Stream, has_event};
pub use text::Text;
pub use unserved::Other;
pub use usage::Reader;
