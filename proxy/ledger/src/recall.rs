//! The message that the store publishes when one replica is short of what others may hold.
//!
//! Delivery is best effort: a replica that is still short asks again, which publishes again.

use std::convert::Infallible;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

#[cfg(test)]
mod tests;

/// Longest queue of messages. Further ones are dropped.
const WAITING: usize = 1024;

/// A replica is short of a counter that others may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recall {
    /// The replica.
    pub(crate) by: String,
    /// The counter's key, as the store knows it.
    pub(crate) key: String,
}

/// The channel of a gateway.
pub(crate) fn channel(prefix: &str) -> String {
    format!("{{{prefix}}}:recall")
}

/// Where a connection puts what the store sends unasked, and where recalls come out.
pub(crate) fn receiver() -> (
    impl Fn(PushInfo) -> Result<(), Infallible> + Clone + Send + Sync + 'static,
    mpsc::Receiver<Recall>,
) {
    let (sender, received) = mpsc::channel(WAITING);
    let put = move |push: PushInfo| {
        if let Some(recall) = read(&push) {
            let _dropped = sender.try_send(recall);
        }
        Ok(())
    };
    (put, received)
}

/// Reads `replica key`; `None` for another message.
fn read(push: &PushInfo) -> Option<Recall> {
    let (PushKind::Message, [_channel, Value::BulkString(text)]) =
        (&push.kind, push.data.as_slice())
    else {
        return None;
    };
    let (by, key) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    Some(Recall {
        by: by.to_owned(),
        key: key.to_owned(),
    })
}
