//! The body of a request on its way in: within bounds of size, time and memory.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Frame, Incoming};
use proxy_admin::clock;
use proxy_admin::connection::Leash;
use proxy_admin::memory::Purpose;
use proxy_api::{Body, FormScan};
use proxy_core::auth::Caller;
use proxy_core::names::Code;

use crate::alarm::Alarm;
use crate::answer::{Refusal, refuse};
use crate::fields::Field;
use crate::memory::{Hold, Memory, SMALL_BODY};
use crate::rate::{Pace, too_slow};
use crate::replay::Replay;
use crate::tail::{Bounds, Feed};

/// What hyper may have read of a large body, beside what was taken from it.
const READ_AHEAD: usize = 512 << 10;
/// What is held first for a body of unknown length.
const FIRST_STEP: usize = 64 << 10;
/// Of a form that is too large to be held, what may stand before its first file.
const MOST_FIELDS: usize = 1 << 20;

/// Why a form that is too large to be held is refused, if it ends before a file begins.
const NO_FILE: &str = "the form has no file, and is too large for one without";

/// What bounds a body.
pub(crate) struct Upload<'a> {
    /// `Content-Encoding`.
    pub(crate) encoding: Field<'a>,
    /// The largest that is held.
    pub(crate) max: usize,
    /// It may be a form that is larger, if it tells its length.
    pub(crate) may_have_files: bool,
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
        self.is_plain()?;
        let hint = self.may_have_files && body.size_hint().exact().is_none();
        let too_large = || {
            if hint {
                without_length(max)
            } else {
                too_large(max)
            }
        };
        let declared = declared(body);
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

    /// Reads of a body that is too large to be held what comes before its first file: nothing, if it is no form.
    /// The rest follows as the backend takes it.
    pub(crate) async fn begin(
        &self,
        mut body: Incoming,
        mut scan: Option<FormScan>,
        leash: &Arc<Leash>,
    ) -> Result<Begun, Box<Refusal>> {
        self.is_plain()?;
        let size = declared(&body);
        let purpose = Purpose::Body;
        let mut hold = self.memory.hold(purpose, self.caller, READ_AHEAD)?;
        let mut first = BytesMut::new();
        let mut frames = Frames::new(&mut body, self.now, self.until);
        while let Some(scan) = &mut scan
            && !scan.has_file()
        {
            let data = match frames.next().await? {
                Some(frame) => frame.into_data().unwrap_or_default(),
                None => return Err(refuse(Code::InvalidRequest, NO_FILE)),
            };
            scan.push(&data)
                .map_err(|why| refuse(Code::InvalidRequest, why.0))?;
            first.extend_from_slice(&data);
            if first.len() > MOST_FIELDS {
                let message = "what stands before the first file of the form is larger than 1 MiB";
                return Err(refuse(Code::RequestTooLarge, message));
            }
        }
        let now = frames.now;
        if scan.as_ref().is_some_and(|scan| !scan.has_model()) {
            let message = format!(
                "a form of more than {} bytes needs its \"model\" before its files",
                self.max
            );
            return Err(refuse(Code::InvalidRequest, message));
        }
        hold.grow(self.caller, READ_AHEAD + first.len())?;
        let sealed = scan
            .as_mut()
            .map(|scan| scan.seal(u64::try_from(size).unwrap_or(u64::MAX)));
        let bounds = Bounds {
            now,
            until: self.until,
            leash: Arc::clone(leash),
            hold,
        };
        let left = size.saturating_sub(first.len());
        Ok(Begun {
            first: first.freeze(),
            sealed,
            now,
            feed: Feed::new(body, scan, left, bounds),
        })
    }

    fn is_plain(&self) -> Result<(), Box<Refusal>> {
        let encoding = self.encoding.first();
        if encoding.is_none_or(|encoding| encoding == "identity") {
            return Ok(());
        }
        let message = "send the body without Content-Encoding";
        Err(Box::new(
            Refusal::new(Code::UnsupportedEncoding, message).closing(),
        ))
    }
}

/// The beginning of a body that is too large to be held.
pub(crate) struct Begun {
    /// What has come.
    pub(crate) first: Bytes,
    /// What a form says of itself.
    pub(crate) sealed: Option<Body>,
    /// When it came.
    pub(crate) now: Instant,
    /// What follows.
    pub(crate) feed: Feed,
}

/// The size of a body, if it tells it; else what it has at least.
pub(crate) fn declared(body: &Incoming) -> usize {
    usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX)
}

pub(crate) fn too_large(max: usize) -> Box<Refusal> {
    let message = format!("the body is larger than {max} bytes");
    refuse(Code::RequestTooLarge, message)
}

fn without_length(max: usize) -> Box<Refusal> {
    let message = format!(
        "the body is larger than {max} bytes; a form with files may be larger, if its Content-Length tells by how \
         much: send one"
    );
    refuse(Code::RequestTooLarge, message)
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
