//! Server-sent events: what a stream is made of, whichever API it belongs to.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde_json::Value;

use crate::record::Usage;

/// One event as it goes to the caller.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    /// What the model had to produce for it.
    pub(crate) made: Usage,
}

/// What comes next in a stream: its pace depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A token, which waits for its turn.
    Token,
    Event,
    /// `[DONE]`
    Done,
    End,
}

/// The events of one stream, made as they are asked for.
pub(crate) trait Events: fmt::Debug + Send {
    fn upcoming(&self) -> Next;

    /// The moment before which the next event is not there yet.
    fn due(&self) -> Option<Duration> {
        None
    }

    fn next(&mut self) -> Option<Chunk>;

    /// Leaves out the rest.
    fn end(&mut self);

    /// The event that reports a model which fails now.
    fn error(&self) -> Bytes;
}

/// An event with a name, as all APIs but the older ones of OpenAI write them.
pub(crate) fn named(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
