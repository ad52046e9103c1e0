//! Asks a resource for what it keeps, on behalf of the gateway itself: how far something has come that goes on in
//! the background, and the lines of a file, one at a time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_api::batches::{Lines, TooLong};
use proxy_api::{CONTENT, Call, Named};
use proxy_core::auth::Caller;

use crate::credential::Shown;
use crate::endpoint::Placed;
use crate::memory::{Full, Hold};
use crate::origin::Outgoing;
use crate::state::Core;
use crate::tail::Outbound;
use crate::token;
use crate::trouble::named_wait;
use crate::upstream::{AnswerBody, Patience};

/// How long one question may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A wait that the resource does not name.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// What a connection has read beside the line that is looked at.
const READ_AHEAD: usize = 64 << 10;

/// A resource, and how one caller's things are asked for there.
pub(crate) struct Source {
    pub(crate) at: Placed,
    pub(crate) project: Option<Box<str>>,
    /// The version of the API that its client speaks.
    pub(crate) version: Option<String>,
    /// The credential of a caller that has one of the backend.
    pub(crate) credential: Option<(HeaderName, HeaderValue)>,
}

/// A file, as it comes.
pub(crate) struct FileLines {
    body: AnswerBody,
    lines: Lines,
    bounds: FileBounds,
    /// What has come.
    size: usize,
    is_whole: bool,
}

/// What bounds the reading of a file.
pub(crate) struct FileBounds {
    /// The largest file.
    pub(crate) size: usize,
    /// The longest line.
    pub(crate) line: usize,
    /// When all of it must have come.
    pub(crate) until: Instant,
    /// Where a line is held.
    pub(crate) hold: Hold,
}

/// Why a file could not be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unread {
    /// The resource does not have it.
    Gone,
    /// The resource did not give it, or not to its end.
    Failed,
    /// The resource takes no question before this time is over.
    Throttled(Duration),
    /// It takes too long.
    Late,
    /// It is too large.
    Large,
    /// A line is too long.
    Long(u64),
    /// No memory is left for a line.
    Full(Full),
}

// === impl Source ===

impl Source {
    /// Asks for what `id` names; `None` if there is no answer, or none that counts.
    pub(crate) async fn get(
        &self,
        core: &Core,
        call: &Call,
        id: &str,
        (request_id, until): (&HeaderValue, Instant),
    ) -> Option<Response<AnswerBody>> {
        let place = &self.at.place;
        let origin = place.origin.as_deref()?;
        let named = Named {
            project: self.project.clone(),
            id: Some(id.into()),
            item: None,
        };
        let deployment = &place.declared.deployment.name;
        let version = self.version.as_deref();
        let bound = Some((&named, ""));
        let destination = origin.destination(call, deployment, version, bound).ok()?;
        let credential = self.credential.as_ref();
        let shown = credential.map(|(header, value)| Shown::again(header, value));
        let outgoing = Outgoing {
            method: &Method::GET,
            destination,
            client: &HeaderMap::new(),
            shown: shown.as_ref(),
            bearer: None,
            request_id,
            length: 0,
            body: &|| Some(Outbound::default()),
            goes_once: false,
        };
        let now = clock::instant();
        let patience = Patience {
            now,
            answer: PATIENCE,
            until,
        };
        let fate = Mutex::default();
        let answered = token::send(&core.connections, origin, outgoing, patience, &fate);
        answered.await.ok()
    }

    /// Begins to read a file.
    pub(crate) async fn lines(
        &self,
        core: &Core,
        id: &str,
        request_id: &HeaderValue,
        bounds: FileBounds,
    ) -> Result<FileLines, Unread> {
        let until = bounds.until;
        let get = || self.get(core, &CONTENT, id, (request_id, until));
        let mut answered = get().await;
        if answered
            .as_ref()
            .is_none_or(|response| response.status().is_server_error())
        {
            // What fails once may be passing.
            answered = get().await;
        }
        let response = answered.ok_or(Unread::Failed)?;
        let headers = response.headers();
        match response.status() {
            StatusCode::OK if !headers.contains_key(CONTENT_ENCODING) => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Unread::Gone),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = named_wait(headers, clock::now());
                return Err(Unread::Throttled(wait.unwrap_or(SHORT_WAIT)));
            }
            _ => return Err(Unread::Failed),
        }
        Ok(FileLines {
            body: response.into_body(),
            lines: Lines::new(bounds.line),
            bounds,
            size: 0,
            is_whole: false,
        })
    }
}

// === impl FileLines ===

impl FileLines {
    /// The next line that is not blank, with its number; `None` at the end.
    pub(crate) async fn next(&mut self, caller: &Caller) -> Result<Option<(u64, Bytes)>, Unread> {
        loop {
            if let Some(line) = self.lines.line()? {
                return Ok(Some(line));
            }
            if self.is_whole {
                return Ok(self.lines.last());
            }
            // Others have their turn, however much has come at once.
            tokio::task::yield_now().await;
            let frame = tokio::time::timeout_at(self.bounds.until.into(), self.body.frame());
            let Some(frame) = frame.await.map_err(|_late| Unread::Late)? else {
                self.is_whole = true;
                continue;
            };
            let frame = frame.map_err(|_broken| Unread::Failed)?;
            let data = frame.into_data().unwrap_or_default();
            self.size = self.size.saturating_add(data.len());
            if self.size > self.bounds.size {
                return Err(Unread::Large);
            }
            self.lines.push(data);
            let held = self.lines.held().saturating_add(READ_AHEAD);
            self.bounds.hold.grow(caller, held).map_err(Unread::Full)?;
        }
    }
}

impl From<TooLong> for Unread {
    fn from(long: TooLong) -> Self {
        Self::Long(long.number)
    }
}
