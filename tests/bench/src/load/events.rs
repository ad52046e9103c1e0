//! Streams of events: sent for, read to their end, counted, checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::{memchr_iter, memmem};
use proxy_admin::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::{Target, Wire, accepted, exchange, post};
use crate::backend::{HANGS, MARK, STEP, STEPS, STREAM};

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
    fn request(self, target: SocketAddr, header: &str, manner: &str) -> Vec<u8> {
        let Self { events, rate, .. } = self;
        let wish = format!("{STREAM}{events} {rate} {manner} ");
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
    let request: Arc<[u8]> = wish.request(target.address, header, "ends").into();
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
                Reader::default().finish(&mut wire, wish).await?;
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

/// Reads one stream of which each event is sent after the one before has arrived, however slow the proxy
/// is. The backend gets its steps directly.
pub(crate) async fn stepped(
    target: &Target,
    header: &str,
    backend: SocketAddr,
    events: u64,
) -> Result<()> {
    let wish = Wish {
        events,
        rate: 0,
        usage: false,
    };
    let step = post(backend, "accept: */*", &format!("[\"{STEP}\"]"));
    let mut control = Target::plain(backend).connect().await?;
    let mut wire = target.connect().await?;
    let request = wish.request(target.address, header, STEPS);
    wire.write_all(&request).await?;
    let (mut reader, mut answer) = (Reader::default(), Vec::new());
    for number in 1..=events {
        exchange(&mut control, &step, &mut answer).await?;
        while reader.marks < number {
            reader.more(&mut wire).await?;
        }
    }
    reader.finish(&mut wire, wish).await
}

/// Reads one stream to its end.
#[derive(Debug, Default)]
struct Reader {
    buffer: Vec<u8>,
    /// The last bytes.
    tail: Vec<u8>,
    marks: u64,
    started: bool,
}

impl Reader {
    async fn more(&mut self, wire: &mut Box<dyn Wire>) -> Result<()> {
        self.buffer.clear();
        self.buffer.reserve(64 * 1024);
        let read = wire.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the stream was cut");
        if !std::mem::replace(&mut self.started, true) {
            accepted(&self.buffer)?;
        }
        let marks = memchr_iter(MARK, &self.buffer).count();
        self.marks += u64::try_from(marks).context("count events")?;
        let last = self.buffer.get(read.saturating_sub(TAIL)..);
        self.tail.extend_from_slice(last.unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(())
    }

    /// Reads to the end, and checks that every event arrived and usage only if asked for.
    async fn finish(mut self, wire: &mut Box<dyn Wire>, wish: Wish) -> Result<()> {
        while !self.tail.ends_with(b"\r\n0\r\n\r\n") {
            self.more(wire).await?;
        }
        ensure!(
            self.marks == wish.events,
            "{} events of {} arrived",
            self.marks,
            wish.events
        );
        ensure!(
            memmem::find(&self.tail, b"data: [DONE]").is_some(),
            "a stream without its last event"
        );
        ensure!(
            memmem::find(&self.tail, b"prompt_tokens").is_some() == wish.usage,
            "usage must arrive exactly if it was asked for"
        );
        Ok(())
    }
}

/// Opens a stream that has had one event and stays open.
pub(crate) async fn hung(target: &Target, header: &str) -> Result<Box<dyn Wire>> {
    let wish = Wish {
        events: 1,
        rate: 0,
        usage: false,
    };
    let mut wire = target.connect().await?;
    let request = wish.request(target.address, header, HANGS);
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
