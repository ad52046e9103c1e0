//! A response in the background, or a batch: the gateway asks for it until it has ended, and settles it then, once,
//! whether or not its client asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use proxy_admin::{clock, task};
use proxy_api::batches;
use proxy_api::{BATCH, Call, Progress, RETRIEVED, is_error, progress};

use crate::exchange::{Exchange, Sum};
use crate::slot::Place;
use crate::source::{PATIENCE, Source, Unread};
use crate::state::Core;
use crate::watch::{MAX_KEPT, Watch};

mod batch;

use batch::Known;

/// How often something is looked at, and how long.
struct Rhythm {
    /// The longest pause between two questions. The first is a second, and each twice the one before.
    pause: Duration,
    /// Failed questions in a row after which it is given up.
    failures: u32,
    /// When it is given up at the latest.
    longest: Duration,
}

/// The pause before the first question.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Foundry ends what runs for longer. A quarter of an hour of failures with the longest pause.
const OF_RESPONSES: Rhythm = Rhythm {
    pause: Duration::from_secs(30),
    failures: 30,
    longest: Duration::from_secs(24 * 60 * 60),
};
/// Azure asks for a minute between two questions, and aims at 24 hours, without an end (Azure, "Getting started
/// with batch deployments"). Four hours of failures: what is held is worth the wait.
const OF_BATCHES: Rhythm = Rhythm {
    pause: Duration::from_secs(60),
    failures: 240,
    longest: Duration::from_secs(48 * 60 * 60),
};

/// What is needed to ask for what goes on in the background.
pub(crate) struct Background {
    pub(crate) source: Source,
    /// It is a batch, not a response.
    pub(crate) is_batch: bool,
    pub(crate) place: Place,
}

/// What a question came to.
enum Asked {
    Running,
    Ended(End),
    /// The backend does not have it any more, or does not tell what it came to.
    Gone,
    Failed,
}

/// What it came to.
enum End {
    /// A whole response.
    Response(Bytes),
    /// The lines of a batch.
    Batch(Sum),
}

impl Background {
    /// Follows it until it has ended. The exchange ends with it.
    pub(crate) fn follow(self, mut exchange: Box<Exchange>, id: &str) {
        exchange.release_permits();
        exchange.hold = None;
        let id: Box<str> = id.into();
        let known = Known::of(&exchange);
        task::spawn("response or batch in the background", async move {
            let core = Arc::clone(exchange.core());
            let mut closing = core.closing.clone();
            let request_id = exchange.record.request_id.clone();
            let end = tokio::select! {
                end = self.end(&core, &id, &request_id, &known) => end,
                () = closing.cutting() => {
                    core.shared.given_up.fetch_add(1, Ordering::Relaxed);
                    None
                }
            };
            match end {
                Some(End::Response(whole)) => ended(exchange, whole),
                Some(End::Batch(sum)) => {
                    exchange.summed(sum, clock::instant());
                    exchange.end("ok", clock::instant());
                }
                None => {
                    // What it came to is not known: as reserved.
                    exchange.unknown(0, clock::instant());
                    exchange.end("ok", clock::instant());
                }
            }
            drop(self.place);
        });
    }

    /// Asks until it has ended; `None` if what it came to cannot be known.
    async fn end(
        &self,
        core: &Core,
        id: &str,
        request_id: &HeaderValue,
        known: &Known,
    ) -> Option<End> {
        let rhythm = if self.is_batch {
            OF_BATCHES
        } else {
            OF_RESPONSES
        };
        let until = clock::instant() + rhythm.longest;
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        while failures < rhythm.failures && clock::instant() < until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(rhythm.pause);
            match self.ask(core, id, request_id, known).await {
                Asked::Running => failures = 0,
                Asked::Failed => failures += 1,
                Asked::Ended(end) => return Some(end),
                Asked::Gone => return None,
            }
        }
        None
    }

    async fn ask(&self, core: &Core, id: &str, request_id: &HeaderValue, known: &Known) -> Asked {
        let call = if self.is_batch { &BATCH } else { &RETRIEVED };
        let until = clock::instant() + PATIENCE;
        let answered = self.source.get(core, call, id, (request_id, until)).await;
        let Some(response) = answered else {
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
        if self.is_batch {
            return self.batch(core, request_id, known, &whole).await;
        }
        match progress(&whole) {
            Some(Progress::Running) => Asked::Running,
            Some(Progress::Ended) => Asked::Ended(End::Response(whole)),
            None => Asked::Failed,
        }
    }

    async fn batch(
        &self,
        core: &Core,
        request_id: &HeaderValue,
        known: &Known,
        whole: &[u8],
    ) -> Asked {
        let Some(batch) = batches::batch(whole) else {
            return Asked::Failed;
        };
        if batch.progress == Progress::Running {
            return Asked::Running;
        }
        match batch::sum(core, &self.source, request_id, (known, &batch)).await {
            Ok(Some(sum)) => Asked::Ended(End::Batch(sum)),
            Ok(None) => Asked::Gone,
            Err(
                Unread::Gone
                | Unread::Failed
                | Unread::Throttled(_)
                | Unread::Late
                | Unread::Large
                | Unread::Long(_)
                | Unread::Full(_),
            ) => Asked::Failed,
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
