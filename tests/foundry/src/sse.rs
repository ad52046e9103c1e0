//! Server-sent events: what a stream is made of, whichever API it belongs to.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde_json::Value;

use crate::{faults::Spacing, record::Usage};

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

    /// The tokens that the model thinks before the next event.
    fn thoughts(&self) -> u64;

    fn next(&mut self) -> Option<Chunk>;

    /// Leaves out the rest.
    fn end(&mut self);

    /// The event that reports a model which fails now.
    fn error(&self) -> Bytes;
}

/// The same event, written in another way.
pub(crate) fn respaced(event: Bytes, spacing: Option<Spacing>) -> Bytes {
    let text = |event: &Bytes| String::from_utf8_lossy(event).into_owned();
    match spacing {
        None => event,
        Some(Spacing::Tight) => {
            let text = text(&event);
            let lines = text.split('\n').map(|line| {
                let field = line
                    .split_once(": ")
                    .filter(|(name, _)| matches!(*name, "event" | "data"));
                field.map_or_else(
                    || line.to_owned(),
                    |(name, value)| format!("{name}:{value}"),
                )
            });
            lines.collect::<Vec<_>>().join("\n").into()
        }
        Some(Spacing::Crlf) => text(&event).replace('\n', "\r\n").into(),
        Some(Spacing::Comments) => format!(": keep-alive\n\n{}", text(&event)).into(),
    }
}

/// An event with a name, as all APIs but the older ones of OpenAI write them.
pub(crate) fn named(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
