//! Streams of events: sent for, read to their end, counted, checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::{memchr_iter, memmem};
use proxy_admin::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::{Target, Wire, accepted, post};
use crate::backend::{MARK, STREAM};

/// The end of a stream that is kept to be checked: more than the usage, the last event and framing.
const TAIL: usize = 1024;

/// The stream that a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) events: u64,
    /// Events per second; 0 = as fast as they are taken.
    pub(crate) rate: u64,
    /// The client asks for usage itself.
    pub(crate) usage: bool,
}

impl Wish {
    fn request(self, target: SocketAddr, header: &str, hang: bool) -> Vec<u8> {
        let Self { events, rate, .. } = self;
        let wish = format!("{STREAM}{events} {rate} {} ", u8::from(hang));
        let mut body = serde_json::json!({
            "model": "gpt-4o",
            "max_tokens": 16,
            "stream": true,
            "messages": [{"role": "user", "content": wish + &"x".repeat(900)}],
        });
        if self.usage
            && let Some(members) = body.as_object_mut()
        {
            let options = serde_json::json!({"include_usage": true});
            members.insert("stream_options".to_owned(), options);
        }
        post(target, header, &body.to_string())
    }
}

/// What the streams came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
}

/// Opens `count` streams at once, each on a connection that asks again until `time` is over.
pub(crate) async fn streams(
    target: &Target,
    header: &str,
    wish: Wish,
    count: usize,
    time: Duration,
) -> Result<Outcome> {
    let request: Arc<[u8]> = wish.request(target.address, header, false).into();
    let start = clock::instant();
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (target, request) = (target.clone(), Arc::clone(&request));
        tasks.spawn(async move {
            let mut wire = target.connect().await?;
            let mut events = 0;
            loop {
                wire.write_all(&request).await?;
                wire.flush().await?;
                read(&mut wire, wish).await?;
                events += wish.events;
                if clock::instant() >= start + time {
                    return anyhow::Ok(events);
                }
            }
        });
    }
    let mut events = 0;
    while let Some(one) = tasks.join_next().await {
        events += one??;
    }
    let elapsed = clock::instant().saturating_duration_since(start);
    Ok(Outcome { events, elapsed })
}

/// Reads one stream to its end, and checks that every event arrived and usage only if asked for.
async fn read(wire: &mut Box<dyn Wire>, wish: Wish) -> Result<()> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut tail = Vec::with_capacity(3 * TAIL);
    let (mut marks, mut first) = (0, true);
    while !tail.ends_with(b"\r\n0\r\n\r\n") {
        buffer.clear();
        let read = wire.read_buf(&mut buffer).await?;
        ensure!(read > 0, "the stream was cut");
        if std::mem::take(&mut first) {
            accepted(&buffer)?;
        }
        marks += memchr_iter(MARK, &buffer).count();
        tail.extend_from_slice(buffer.get(read.saturating_sub(TAIL)..).unwrap_or_default());
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    let marks = u64::try_from(marks).context("count events")?;
    ensure!(
        marks == wish.events,
        "{marks} events of {} arrived",
        wish.events
    );
    ensure!(
        memmem::find(&tail, b"data: [DONE]").is_some(),
        "a stream without its last event"
    );
    ensure!(
        memmem::find(&tail, b"prompt_tokens").is_some() == wish.usage,
        "usage must arrive exactly if it was asked for"
    );
    Ok(())
}

/// Opens a stream that has had one event and stays open.
pub(crate) async fn hung(target: &Target, header: &str) -> Result<Box<dyn Wire>> {
    let wish = Wish {
        events: 1,
        rate: 0,
        usage: false,
    };
    let mut wire = target.connect().await?;
    let request = wish.request(target.address, header, true);
    wire.write_all(&request).await?;
    let mut buffer = Vec::with_capacity(TAIL);
    while !buffer.contains(&MARK) {
        ensure!(
            wire.read_buf(&mut buffer).await? > 0,
            "the stream was cut before its first event"
        );
    }
    accepted(&buffer)?;
    Ok(wire)
}
