//! The rest of a body that is too large to be held: it goes on as it comes, once, and no faster than the backend
//! takes it. What breaks off on the client's side is the client's fault, whatever the backend says to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::connection::Leash;
use proxy_api::{FormScan, Pieces};
use proxy_core::names::Code;

use crate::alarm::Alarm;
use crate::answer::Refusal;
use crate::memory::Hold;
use crate::rate::{Pace, too_slow};

/// The rest of a body.
#[derive(Debug)]
pub(crate) struct Tail {
    body: Incoming,
    /// Of a form: what decides has come, and must not come again.
    scan: Option<FormScan>,
    /// What has not come yet.
    left: usize,
    pace: Pace,
    /// When the last piece was handed out: until the next one is wanted, the client need not send.
    handed: Option<Instant>,
    until: Instant,
    alarm: Alarm,
    leash: Arc<Leash>,
    /// For what the connection has read of it.
    _hold: Hold,
    fault: Fault,
}

/// Why the client's part of a request failed, if it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<Box<Refusal>>>>);

/// The rest of a body until a try takes it.
#[derive(Debug)]
pub(crate) struct Feed {
    tail: Mutex<Option<Box<Tail>>>,
    length: usize,
    fault: Fault,
}

/// A body on its way out.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) pieces: Pieces,
    /// What follows them.
    pub(crate) tail: Option<Box<Tail>>,
}

/// What bounds the rest of a body.
pub(crate) struct Bounds {
    pub(crate) now: Instant,
    /// When it must be there.
    pub(crate) until: Instant,
    pub(crate) leash: Arc<Leash>,
    pub(crate) hold: Hold,
}

// === impl Tail ===

impl Tail {
    /// How much has not come yet.
    pub(crate) const fn left(&self) -> usize {
        self.left
    }

    pub(crate) fn fault(&self) -> Fault {
        self.fault.clone()
    }

    /// The next piece; `None` at the end. The client learns of an error by [`Fault`].
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        Poll::Ready(match ready!(self.poll_piece(cx)) {
            Ok(piece) => piece.map(Ok),
            Err(refusal) => {
                let cause = refusal.denial.message.clone();
                *self.fault.0.lock() = Some(refusal);
                Some(Err(io::Error::other(cause)))
            }
        })
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Box<Refusal>>> {
        if let Some(handed) = self.handed.take() {
            self.pace.pause(clock::instant() - handed);
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                ready!(self.alarm.poll_past(cx, self.pace.end().min(self.until)));
                let now = clock::instant();
                if now >= self.until || self.pace.is_lost(now) {
                    return Poll::Ready(Err(too_slow()));
                }
                continue;
            };
            let frame = match frame {
                None => {
                    self.leash.received();
                    return Poll::Ready(Ok(None));
                }
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    return Poll::Ready(Err(malformed(format!(
                        "the body is malformed or broke off: {error}"
                    ))));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.left = self.left.saturating_sub(data.len());
            let now = clock::instant();
            if self.pace.is_broken(data.len(), now) || now >= self.until {
                return Poll::Ready(Err(too_slow()));
            }
            self.handed = Some(now);
            if let Some(scan) = &mut self.scan
                && let Err(why) = scan.push(&data)
            {
                return Poll::Ready(Err(malformed(why.0)));
            }
            return Poll::Ready(Ok(Some(data)));
        }
    }
}

fn malformed(message: String) -> Box<Refusal> {
    Box::new(Refusal::new(Code::InvalidRequest, message).closing())
}

// === impl Fault ===

impl Fault {
    pub(crate) fn is_set(&self) -> bool {
        self.0.lock().is_some()
    }
}

// === impl Feed ===

impl Feed {
    /// The rest of a body of which `left` bytes have not come yet.
    pub(crate) fn new(body: Incoming, scan: Option<FormScan>, left: usize, bounds: Bounds) -> Self {
        let fault = Fault::default();
        let tail = Tail {
            body,
            scan,
            left,
            pace: Pace::new(bounds.now),
            // No try has begun.
            handed: Some(bounds.now),
            until: bounds.until,
            alarm: Alarm::default(),
            leash: bounds.leash,
            _hold: bounds.hold,
            fault: fault.clone(),
        };
        Self {
            tail: Mutex::new(Some(Box::new(tail))),
            length: left,
            fault,
        }
    }

    /// The rest of the body, once.
    pub(crate) fn take(&self) -> Option<Box<Tail>> {
        self.tail.lock().take()
    }

    /// Whether no try has taken it.
    pub(crate) fn is_kept(&self) -> bool {
        self.tail.lock().is_some()
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// What the client did wrong.
    pub(crate) fn refusal(&self) -> Option<Box<Refusal>> {
        self.fault.0.lock().take()
    }
}

// === impl Outbound ===

impl From<Pieces> for Outbound {
    fn from(pieces: Pieces) -> Self {
        Self { pieces, tail: None }
    }
}
