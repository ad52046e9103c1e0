//! A response in the background: the gateway asks for it until it has ended, and settles it then, once, whether
//! or not its client asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use proxy_admin::{clock, task};
use proxy_api::{Call, Named, Progress, RETRIEVED, is_error, progress};

use crate::credential::Shown;
use crate::endpoint::Placed;
use crate::exchange::Exchange;
use crate::origin::Outgoing;
use crate::slot::Place;
use crate::state::Core;
use crate::tail::Outbound;
use crate::token;
use crate::upstream::Patience;
use crate::watch::{MAX_KEPT, Watch};

/// The pause before the first question, and the longest between two.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Failed questions in a row after which it is given up: a quarter of an hour with the longest pause.
const MOST_FAILURES: u32 = 30;
/// Foundry ends what runs for longer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What is needed to ask for a response again.
pub(crate) struct Background {
    pub(crate) at: Placed,
    pub(crate) project: Option<Box<str>>,
    /// The version of the API that its client speaks.
    pub(crate) version: Option<String>,
    /// The credential of a caller that has one of the backend.
    pub(crate) credential: Option<(HeaderName, HeaderValue)>,
    pub(crate) place: Place,
}

/// What a question came to.
enum Asked {
    Running,
    Ended(Bytes),
    /// The backend does not have it any more.
    Gone,
    Failed,
}

impl Background {
    /// Follows the response until it has ended. The exchange ends with it.
    pub(crate) fn follow(self, mut exchange: Box<Exchange>, id: &str) {
        exchange.release_permits();
        exchange.hold = None;
        let named = Named {
            project: self.project.clone(),
            id: Some(id.into()),
            item: None,
        };
        task::spawn("response in the background", async move {
            let core = Arc::clone(exchange.core());
            let mut closing = core.closing.clone();
            let whole = tokio::select! {
                whole = self.whole(&core, &named, &exchange.record.request_id) => whole,
                () = closing.cutting() => {
                    core.shared.given_up.fetch_add(1, Ordering::Relaxed);
                    None
                }
            };
            match whole {
                Some(whole) => ended(exchange, whole),
                None => {
                    // What it came to is not known: as reserved.
                    exchange.unknown(0, clock::instant());
                    exchange.end("ok", clock::instant());
                }
            }
            drop(self.place);
        });
    }

    /// Asks until the response has ended; `None` if what it came to cannot be known.
    async fn whole(&self, core: &Core, named: &Named, request_id: &HeaderValue) -> Option<Bytes> {
        let until = clock::instant() + LONGEST;
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        while failures < MOST_FAILURES && clock::instant() < until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.ask(core, named, request_id).await {
                Asked::Running => failures = 0,
                Asked::Failed => failures += 1,
                Asked::Ended(whole) => return Some(whole),
                Asked::Gone => return None,
            }
        }
        None
    }

    async fn ask(&self, core: &Core, named: &Named, request_id: &HeaderValue) -> Asked {
        let place = &self.at.place;
        let Some(origin) = place.origin.as_deref() else {
            return Asked::Failed;
        };
        let bound = Some((named, ""));
        let deployment = &place.declared.deployment.name;
        let version = self.version.as_deref();
        let Ok(destination) = origin.destination(&RETRIEVED, deployment, version, bound) else {
            return Asked::Failed;
        };
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
        let until = now + PATIENCE;
        let patience = Patience {
            now,
            answer: PATIENCE,
            until,
        };
        let fate = Mutex::default();
        let answered = token::send(&core.connections, origin, outgoing, patience, &fate);
        let Ok(response) = answered.await else {
            return Asked::Failed;
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Asked::Gone,
            _ => return Asked::Failed,
        }
        let whole = Limited::new(response.into_body(), MAX_KEPT).collect();
        let Ok(Ok(whole)) = tokio::time::timeout_at(until.into(), whole).await else {
            return Asked::Failed;
        };
        let whole = whole.to_bytes();
        match progress(&whole) {
            Some(Progress::Running) => Asked::Running,
            Some(Progress::Ended) => Asked::Ended(whole),
            None => Asked::Failed,
        }
    }
}

/// Whether a response says what it came to: by its usage, its text or an error.
fn is_telling(call: &Call, whole: &[u8]) -> bool {
    (call.read_usage)(whole, None).is_some()
        || call.counted_output(whole, |_| None) > 0
        || is_error(whole)
}

/// Settles by the whole response.
fn ended(mut exchange: Box<Exchange>, whole: Bytes) {
    let now = clock::instant();
    let call = exchange.record.api.and_then(|api| api.answer.call());
    let code = match call {
        Some(call) if is_telling(call, &whole) => {
            Watch::whole(call, whole).settle(&mut exchange, now)
        }
        // Cancelled, most often. What it repeats of the request is no output.
        Some(_) | None => {
            exchange.unknown(0, now);
            "ok"
        }
    };
    exchange.end(code, now);
}
