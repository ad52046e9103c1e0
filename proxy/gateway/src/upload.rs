//! The body of a request on its way in: within bounds of size, time and memory.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Frame, Incoming};
use proxy_admin::clock;
use proxy_admin::memory::Purpose;
use proxy_core::auth::Caller;
use proxy_core::names::Code;

use crate::alarm::Alarm;
use crate::answer::{Refusal, refuse};
use crate::fields::Field;
use crate::memory::{Hold, Memory, SMALL_BODY};
use crate::replay::Replay;

/// In each interval of this length, up to the last one, a body must bring at least [`LEAST`]: 1 KB/s, and
/// none of it on credit for what came before.
const INTERVAL: Duration = Duration::from_secs(10);
const LEAST: usize = 10_000;

/// What hyper may have read of a large body, beside what was taken from it.
const READ_AHEAD: usize = 512 << 10;
/// What is held first for a body of unknown length.
const FIRST_STEP: usize = 64 << 10;

/// What bounds a body.
pub(crate) struct Upload<'a> {
    /// `Content-Encoding`.
    pub(crate) encoding: Field<'a>,
    /// Its largest size.
    pub(crate) max: usize,
    /// When its head came.
    pub(crate) now: Instant,
    /// When it must be there.
    pub(crate) until: Instant,
    pub(crate) memory: &'a Arc<Memory>,
    pub(crate) caller: &'a Caller,
}

impl Upload<'_> {
    /// Reads the whole body, which is kept for a retry. Returns it with the time.
    ///
    /// What it will need is held before any of it is read: of a body that tells its length all of it at
    /// once, of another one twice what came so far.
    pub(crate) async fn read(
        &self,
        body: &mut Incoming,
    ) -> Result<(Replay, Bytes, Instant), Box<Refusal>> {
        let Self { max, now, .. } = *self;
        if self
            .encoding
            .first()
            .is_some_and(|encoding| encoding != "identity")
        {
            let message = "send the body without Content-Encoding";
            return Err(Box::new(
                Refusal::new(Code::UnsupportedEncoding, message).closing(),
            ));
        }
        let too_large = || {
            refuse(
                Code::RequestTooLarge,
                format!("the body is larger than {max} bytes"),
            )
        };
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > max {
            return Err(too_large());
        }
        let mut room = Room::default();
        room.hold(self, declared)?;
        let mut frames = Frames::new(body, now, self.until);
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(frame) = frames.next().await? {
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let size = first
                .as_ref()
                .map_or(rest.len(), Bytes::len)
                .saturating_add(data.len());
            if size > max {
                return Err(too_large());
            }
            if size > room.size {
                room.hold(
                    self,
                    size.saturating_mul(2)
                        .clamp(FIRST_STEP, max.max(FIRST_STEP)),
                )?;
            }
            match (first.take(), rest.is_empty()) {
                (None, true) => first = Some(data),
                (Some(before), _) => {
                    rest.reserve(declared.max(size));
                    rest.extend_from_slice(&before);
                    rest.extend_from_slice(&data);
                }
                (None, false) => rest.extend_from_slice(&data),
            }
        }
        let now = frames.now;
        let bytes = first.unwrap_or_else(|| rest.freeze());
        if let Some(hold) = &mut room.hold {
            hold.shrink(bytes.len());
        }
        Ok((Replay::new(bytes.clone(), room.hold), bytes, now))
    }
}

/// The memory that is held for a body.
#[derive(Default)]
struct Room {
    hold: Option<Hold>,
    /// The largest body that it is enough for.
    size: usize,
}

impl Room {
    fn hold(&mut self, upload: &Upload<'_>, size: usize) -> Result<(), Box<Refusal>> {
        if size <= SMALL_BODY {
            self.size = SMALL_BODY;
            return Ok(());
        }
        let bytes = size.saturating_add(size.min(READ_AHEAD));
        let Upload { memory, caller, .. } = upload;
        match &mut self.hold {
            Some(hold) => hold.grow(caller, bytes)?,
            None => self.hold = Some(memory.hold(Purpose::Body, caller, bytes)?),
        }
        self.size = size;
        Ok(())
    }
}

/// The frames of a body. Most bodies are there with their heads: a timer is made for those that are not.
struct Frames<'a> {
    body: &'a mut Incoming,
    /// When the last frame arrived. Read again only after a wait.
    now: Instant,
    until: Instant,
    alarm: Alarm,
    pace: Pace,
}

impl<'a> Frames<'a> {
    fn new(body: &'a mut Incoming, now: Instant, until: Instant) -> Self {
        Self {
            body,
            now,
            until,
            alarm: Alarm::default(),
            pace: Pace::new(now),
        }
    }

    async fn next(&mut self) -> Result<Option<Frame<Bytes>>, Box<Refusal>> {
        let Self {
            body,
            now,
            until,
            alarm,
            pace,
        } = self;
        let mut waited = false;
        let frame = poll_fn(|cx| {
            loop {
                if let Poll::Ready(frame) = Pin::new(&mut **body).poll_frame(cx) {
                    return Poll::Ready(Ok(frame));
                }
                waited = true;
                if alarm.poll_past(cx, pace.end().min(*until)).is_pending() {
                    return Poll::Pending;
                }
                *now = clock::instant();
                if *now >= *until || pace.is_lost(*now) {
                    return Poll::Ready(Err(too_slow()));
                }
            }
        });
        let frame = frame.await?;
        if waited {
            *now = clock::instant();
        }
        let frame = frame.transpose().map_err(|error| {
            let message = format!("the body is malformed or broke off: {error}");
            Box::new(Refusal::new(Code::InvalidRequest, message).closing())
        })?;
        let data = frame.as_ref().and_then(Frame::data_ref);
        let is_broken = data.is_some_and(|data| pace.is_broken(data.len(), *now));
        if is_broken || *now >= *until {
            return Err(too_slow());
        }
        Ok(frame)
    }
}

/// Whether a body keeps its rate.
#[derive(Debug)]
struct Pace {
    /// When the interval began.
    since: Instant,
    /// What it brought.
    bytes: usize,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
        }
    }

    fn end(&self) -> Instant {
        self.since + INTERVAL
    }

    /// Whether an interval is over that brought too little. A good one is followed by another.
    fn is_lost(&mut self, now: Instant) -> bool {
        if now < self.end() {
            return false;
        }
        let is_lost = self.bytes < LEAST;
        *self = Self::new(now);
        is_lost
    }

    /// Takes bytes that arrived, which may be after the end of an interval that brought too little.
    fn is_broken(&mut self, bytes: usize, now: Instant) -> bool {
        let is_lost = self.is_lost(now);
        self.bytes = self.bytes.saturating_add(bytes);
        is_lost
    }
}

fn too_slow() -> Box<Refusal> {
    let message = "the body did not arrive in time";
    Box::new(Refusal::new(Code::RequestTimeout, message).closing())
}

#[cfg(test)]
mod tests;
