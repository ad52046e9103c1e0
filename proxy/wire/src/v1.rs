//! Version 1 of the control channel.
//!
//! A table travels as [`Objects`]: one piece of JSON per backend, route, quota and key, so that a
//! change of one route is a delta of one piece. Lines ([`Line`]) are newline-delimited JSON. Counters
//! travel the other way, as a [`Report`]. Words: a `digest` names the bytes of all objects, a
//! `revision` orders tables in time, a `base` is the digest that a delta starts from, a `feature` is
//! what an entry may need of its reader.

mod backend;
mod checkpoint;
mod edit;
mod error;
mod feature;
mod fields;
mod issuer;
mod line;
mod object;
mod objects;
mod parts;
mod price;
mod quota;
mod report;
mod restricted;
mod table;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointCounter, CheckpointReplica};
pub use edit::{BY_EDITS, Edit};
pub use error::DecodeError;
pub use feature::{Declared, Feature, Features, Unsupported};
pub use line::{Ack, AckResult, Delta, Heartbeat, Line, Snapshot, VERSION, apply, edited};
pub use objects::{BY_SHARDS, Entry, Objects, diff, digest, digest_in_a_row, verify};
pub use parts::{Head, PARTS, PIECE_BYTES, PartsError, Stored, head, join, split};
pub use report::{Carried, CarriedEntry, Counted, Denials, DeploymentReport, NoToken, Report};
pub use table::{
    Decoded, decode, decode_reusing, encode, encode_reusing, without_credentials,
    without_credentials_reusing,
};
